"""What a store of features was made of: features of another make are refused, not mixed in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pipeline.backbone import BackboneSpec
from pipeline.decode import RESIZE
from pipeline.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything besides a file's content that its features depend on.

    Attributes:
        backbone: the network's name.
        weights_sha256: of its weights.
        preprocessing: from decoded picture to the network's input.
        sampling: which frames, as "uniform:8" or "fps:2".
        size: height and width of the frames, in pixels.
        dim: D, the length of a feature.
        dtype: of the features as stored.
        format: "arrow" or "webdataset".
    """

    backbone: str
    weights_sha256: str
    preprocessing: str
    sampling: str
    size: int
    dim: int
    dtype: str
    format: str

    def to_json(self) -> str:
        """One canonical line."""
        return json.dumps(asdict(self), sort_keys=True)

    def features_json(self) -> str:
        """One canonical line of what the numbers depend on: how they are stored left out."""
        fields = asdict(self)
        del fields["format"]
        return json.dumps(fields, sort_keys=True)

    def differences(self, other: Fingerprint) -> list[str]:
        """Where two differ, a phrase each."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} {mine[name]!r} != {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]


def make_fingerprint(spec: BackboneSpec, sampling: Sampling, format: str) -> Fingerprint:
    """The fingerprint of features made by a backbone from frames chosen by a rule."""
    return Fingerprint(
        backbone=spec.name,
        weights_sha256=spec.weights_sha256,
        preprocessing=f"{RESIZE}; {spec.preprocessing}",
        sampling=str(sampling),
        size=spec.size,
        dim=spec.dim,
        dtype="float32",
        format=format,
    )
