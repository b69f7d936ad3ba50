"""The fingerprint of a feature store: the settings that its features were computed with.

Features with another fingerprint are refused, so that a store contains only features with one
fingerprint. Features that another program computed have an external fingerprint, which names their
network; those of new files can't be computed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from intertitle.pipeline.backbones import BackboneSpec, Precision
from intertitle.pipeline.decoding.decode import RESIZE
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.errors import UserError

# Prefix of the name of a network that computed features elsewhere.
EXTERNAL = "external:"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that features depend on, apart from the content of the file.

    Attributes:
        backbone: name of the network; "external:NAME" if the features were imported.
        features: "pooled" or "grid".
        weights_sha256: SHA-256 of the network's weights or of the file that contains them; of
            the imported features themselves if the network is external.
        preprocessing: description of how a decoded frame becomes the network's input.
        precision: data type that the network computed in: "float32", "float16" or "bfloat16".
        sampling: rule that selects the frames, such as "uniform:8" or "fps:2"; "external" if
            the features were imported.
        size: height and width of the frames, in pixels; 0 if the features were imported.
        shape: shape of one frame's features: (D,) if pooled, (cells, D) for a grid.
        dtype: data type of the stored features.
        format: file format of the shards, "arrow" or "webdataset".
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
        """The length D of one feature vector."""
        return self.shape[-1]

    @property
    def is_external(self) -> bool:
        """Whether the features were computed by another program and imported."""
        return self.backbone.startswith(EXTERNAL)

    def to_json(self) -> str:
        """Return the fingerprint as one line of canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> Fingerprint:
        """Parse a line that `to_json` wrote.

        Raises:
            ValueError: the line is not a fingerprint of this version.
        """
        values = json.loads(line)
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise ValueError(f"a fingerprint has the fields {', '.join(sorted(names))}, not {line}")
        return cls(**{**values, "shape": tuple(values["shape"])})

    def features_json(self) -> str:
        """Return the part that a model's features must share, as one line of canonical JSON.

        The storage format and the precision are left out: a model that was trained with features
        from a GPU is served on a CPU, and the difference between their precisions is far smaller
        than the difference between two frames.
        """
        values = asdict(self)
        del values["format"], values["precision"]
        return json.dumps(values, sort_keys=True)

    def differences(self, second: Fingerprint) -> list[str]:
        """List the fields that differ from another fingerprint, one phrase per field."""
        own_values, second_values = asdict(self), asdict(second)
        return [
            f"{name} {own_values[name]!r} != {second_values[name]!r}"
            for name in own_values
            if own_values[name] != second_values[name]
        ]


def make_fingerprint(
    spec: BackboneSpec, sampling: Sampling, format: str, precision: Precision
) -> Fingerprint:
    """Make the fingerprint of the features that a backbone computes from sampled frames."""
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


def external_fingerprint(
    network: str, features: str, shape: tuple[int, ...], sha256: str, format: str
) -> Fingerprint:
    """Make the fingerprint of imported features.

    Args:
        network: name of the network that computed them.
        features: "pooled" or "grid".
        shape: shape of one frame's features.
        sha256: hash that identifies the features.
        format: file format of the shards.
    """
    return Fingerprint(
        backbone=f"{EXTERNAL}{network}",
        features=features,
        weights_sha256=sha256,
        preprocessing="external",
        precision="float32",
        sampling="external",
        size=0,
        shape=shape,
        dtype="float32",
        format=format,
    )


def check_computable(backbone: str) -> None:
    """Check that the features of new files can be computed.

    Args:
        backbone: name of the network in a fingerprint.

    Raises:
        UserError: the features were imported.
    """
    if backbone.startswith(EXTERNAL):
        raise UserError(
            f"{backbone}: imported features, so those of a file can't be computed here; import "
            "them for a corpus with `intertitle import-features --same-as STORE`, and name it with "
            "--corpus and its store with --features"
        )
