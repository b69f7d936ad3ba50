"""Weights of networks, of their libraries or of local files, which are kept in the cache folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from intertitle.pipeline.backbones.base import (
    FrameNetwork,
    load_weights,
    weights_sha256,
    weights_to_bytes,
)
from intertitle.pipeline.backbones.cache import write_cached
from intertitle.pipeline.backbones.spec import BackboneSpec
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import cache_folder

# What follows the name of a network, before the path of a file of weights.
FILE_OPTION = ",weights="


def split_file(name: str) -> tuple[str, Path | None]:
    """Split `NAME[,weights=FILE]` into the name and the file; the name is "" if that is invalid."""
    rest, separator, file = name.partition(FILE_OPTION)
    if "," in rest or (separator and not file):
        return "", None
    return rest, Path(file) if file else None


def load_pretrained(
    label: str, file: Path | None, syntax: str, load: Callable[[], nn.Module]
) -> nn.Module:
    """Load a network with the weights of a file or, without one, with those of its library.

    Args:
        label: name of the network, for messages.
        file: file of weights; None for those of the library, which may download them.
        syntax: form of the names, for a message.
        load: function that makes the network and loads its weights.

    Raises:
        UserError: the weights are not available, or not those of the network.
    """
    if file and not file.is_file():
        raise UserError(f"backbone: {str(file)!r}: no such file of weights")
    try:
        return load().eval()
    # A download or a file can fail in many ways, and every library has its own error classes.
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        source = f"{file}: not weights of it" if file else "its weights are not to be had"
        hint = "" if file else f"; a file can be given, {syntax}"
        raise UserError(f"backbone: {label}: {source}: {line}{hint}") from error


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A network with the weights of a local file or, without one, of its library.

    Attributes:
        label: name of the network, for messages.
        file: file of weights; None for those of the library.
        create: function that makes the network with any weights.
        load: function that makes it with those of the file or of the library.
    """

    label: str
    file: Path | None
    create: Callable[[], nn.Module]
    load: Callable[[], nn.Module]

    def for_spec(self, sha256: str | None) -> tuple[nn.Module, str]:
        """Make the network for a new specification, and keep the weights of a local file.

        Args:
            sha256: hash of weights that were kept before, or None.

        Returns:
            The network and the hash of its weights.

        Raises:
            UserError: the weights are not available.
        """
        if self.file and sha256:
            return self._kept(sha256), sha256
        model = self.load()
        digest = weights_sha256(model)
        if self.file:
            write_cached(_kept_file(digest), weights_to_bytes(model))
        return model, digest

    def _of_spec(self, spec: BackboneSpec) -> nn.Module:
        """Make the network with the weights of a specification.

        Raises:
            UserError: the weights are not available, or not those of the specification.
        """
        if self.file:
            return self._kept(spec.weights_sha256)
        model = self.load()
        digest = weights_sha256(model)
        if digest != spec.weights_sha256:
            raise UserError(
                f"backbone: {spec.name!r}: the library's weights are not those of before: sha256 "
                f"{digest} != {spec.weights_sha256}"
            )
        return model

    def make_network(
        self,
        spec: BackboneSpec,
        weights: bytes | None,
        assemble: Callable[[nn.Module], FrameNetwork],
    ) -> FrameNetwork:
        """Make a network from frames to features.

        Args:
            spec: specification of the backbone.
            weights: result of `weights_to_bytes`; None loads those of the specification.
            assemble: function that adds the preprocessing.

        Raises:
            UserError: the weights are not available, or not those of the specification.
        """
        if weights is None:
            return assemble(self._of_spec(spec))
        network = assemble(self.create())
        load_weights(network, weights)
        return network

    def _kept(self, sha256: str) -> nn.Module:
        model = self.create()
        _load_kept(model, self.label, sha256)
        return model


def _kept_file(sha256: str) -> Path:
    return cache_folder() / f"weights-{sha256}.safetensors"


def _load_kept(model: nn.Module, label: str, sha256: str) -> None:
    """Load weights that `Pretrained.for_spec` kept."""
    file = _kept_file(sha256)
    error: Exception | None = None
    try:
        load_weights(model, file.read_bytes())
        if weights_sha256(model) == sha256:
            return
    # The file is missing or damaged, or has weights of another network.
    except Exception as caught:
        error = caught
    raise UserError(
        f"backbone: {label!r}: its weights are not on this machine; "
        f"copy {file.name} from the one that made the features to {file.parent}"
    ) from error
