"""The make of features: everything counts, and a difference is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from pipeline.backbone import backbone_spec
from pipeline.fingerprint import Fingerprint, make_fingerprint
from pipeline.sampling import Rate, Uniform

SPEC = backbone_spec("efficientnet_lite0")
MAKE = make_fingerprint(SPEC, Uniform(8), "arrow")


def test_its_line_says_it_whole() -> None:
    assert Fingerprint(**json.loads(MAKE.to_json())) == MAKE
    assert "\n" not in MAKE.to_json()


@pytest.mark.parametrize("name", [field.name for field in fields(Fingerprint)])
def test_every_field_makes_another_one_and_is_named(name: str) -> None:
    other = replace(MAKE, **{name: "other"})
    assert other.to_json() != MAKE.to_json()
    assert MAKE.differences(other) == [f"{name} {getattr(MAKE, name)!r} != 'other'"]
    # How the numbers are stored does not change them.
    assert (other.features_json() == MAKE.features_json()) == (name == "format")


def test_it_is_made_of_the_network_the_rule_and_the_format() -> None:
    assert (MAKE.backbone, MAKE.weights_sha256) == (SPEC.name, SPEC.weights_sha256)
    assert (MAKE.size, MAKE.dim, MAKE.dtype) == (224, 1280, "float32")
    assert SPEC.preprocessing in MAKE.preprocessing
    rates = [make_fingerprint(SPEC, Rate(fps), "arrow").sampling for fps in (30, 30000 / 1001)]
    assert rates == ["fps:30", "fps:29.97002997002997"]
