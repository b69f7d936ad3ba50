"""What a store of features was made of: features of another make are refused, not mixed in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from pipeline.backbone import BackboneSpec, Precision
from pipeline.decode import RESIZE
from pipeline.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything besides a file's content that its features depend on.

    Attributes:
        backbone: the network's name.
        features: "pooled" or "grid".
        weights_sha256: of its weights.
        preprocessing: from decoded picture to the network's input.
        precision: what the network computed in, "float32" or "bfloat16".
        sampling: which frames, as "uniform:8" or "fps:2".
        size: height and width of the frames, in pixels.
        shape: of one frame's features: (D,) pooled, (cells, D) for a grid.
        dtype: of the features as stored.
        format: "arrow" or "webdataset".
    """

    backbone: str
    features: str
    weights_sha256: str
    preprocessing: str
    precision: str
    sampling: str
    size: int
    shape: tuple[int, ...]
    dtype: str
    format: str

    @property
    def dim(self) -> int:
        """D, the length of one vector of features."""
        return self.shape[-1]

    def to_json(self) -> str:
        """One canonical line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> Fingerprint:
        """The inverse of `to_json`.

        Raises:
            ValueError: the line is not a fingerprint of this version.
        """
        values = json.loads(line)
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise ValueError(f"a fingerprint has the fields {', '.join(sorted(names))}, not {line}")
        return cls(**{**values, "shape": tuple(values["shape"])})

    def features_json(self) -> str:
        """One canonical line of what a model may be fed.

        How the numbers are stored is left out, and their precision: a model made with features of a
        GPU is served on a CPU, and the difference is far below that between two frames.
        """
        values = asdict(self)
        del values["format"], values["precision"]
        return json.dumps(values, sort_keys=True)

    def differences(self, other: Fingerprint) -> list[str]:
        """Where two differ, a phrase each."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} {mine[name]!r} != {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]


def make_fingerprint(
    spec: BackboneSpec, sampling: Sampling, format: str, precision: Precision
) -> Fingerprint:
    """The fingerprint of features made by a backbone from frames chosen by a rule."""
    return Fingerprint(
        backbone=spec.name,
        features=spec.features,
        weights_sha256=spec.weights_sha256,
        preprocessing=f"{RESIZE}; {spec.preprocessing}",
        precision=precision,
        sampling=str(sampling),
        size=spec.size,
        shape=spec.shape,
        dtype="float32",
        format=format,
    )
