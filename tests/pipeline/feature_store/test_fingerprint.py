"""The make of features: everything counts, and a difference is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.decoding.sampling import Rate, Uniform
from intertitle.pipeline.feature_store.fingerprint import Fingerprint, make_fingerprint

SPEC = backbone_spec("efficientnet_lite0")
MAKE = make_fingerprint(SPEC, Uniform(8), "arrow", "float32")
GRID = make_fingerprint(backbone_spec("efficientnet_lite0", "grid"), Uniform(8), "arrow", "float32")


def test_its_line_says_it_whole() -> None:
    for make in (MAKE, GRID):
        assert Fingerprint.from_json(make.to_json()) == make
        assert "\n" not in make.to_json()


@pytest.mark.parametrize("line", ["{}", "[]", '"text"', MAKE.to_json().replace("shape", "dim")])
def test_a_line_of_another_version_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="a fingerprint has the fields backbone, "):
        Fingerprint.from_json(line)


@pytest.mark.parametrize("name", [field.name for field in fields(Fingerprint)])
def test_every_field_makes_another_one_and_is_named(name: str) -> None:
    other = replace(MAKE, **{name: "other"})
    assert other.to_json() != MAKE.to_json()
    assert MAKE.differences(other) == [f"{name} {getattr(MAKE, name)!r} != 'other'"]
    assert other.differences(MAKE) == [f"{name} 'other' != {getattr(MAKE, name)!r}"]
    # How the numbers are stored does not change them, and their precision not what they are for.
    same = other.features_json() == MAKE.features_json()
    assert same == (name in ("format", "precision"))


def test_it_is_made_of_the_network_the_rule_and_the_format() -> None:
    assert (MAKE.backbone, MAKE.weights_sha256) == (SPEC.name, SPEC.weights_sha256)
    assert (MAKE.size, MAKE.shape, MAKE.dtype) == (224, (1280,), "float32")
    assert (MAKE.features, MAKE.precision) == ("pooled", "float32")
    assert GRID.shape == (49, 1280) and GRID.dim == MAKE.dim == 1280
    assert SPEC.preprocessing in MAKE.preprocessing
    rates = [
        make_fingerprint(SPEC, Rate(fps), "arrow", "float32").sampling for fps in (30, 30000 / 1001)
    ]
    assert rates == ["fps:30", "fps:29.97002997002997"]


def test_what_models_must_share_is_written_in_one_order() -> None:
    keys = list(json.loads(MAKE.features_json()))
    assert keys == sorted(keys)
