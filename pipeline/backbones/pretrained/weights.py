"""Weights of networks, of their libraries or of local files, which are kept in the cache folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from intertitle.pipeline.backbones.base import load_weights, weights_sha256, weights_to_bytes
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


def with_given_weights(
    label: str,
    file: Path | None,
    sha256: str | None,
    create: Callable[[], nn.Module],
    load: Callable[[], nn.Module],
) -> tuple[nn.Module, str]:
    """Make a network for a specification, and keep the weights of a local file.

    Args:
        label: name of the network, for messages.
        file: file of weights, or None.
        sha256: hash of weights that were kept before, or None.
        create: function that makes the network with any weights.
        load: function that makes it with those of the file or of the library.

    Returns:
        The network and the hash of its weights.

    Raises:
        UserError: the weights are not available.
    """
    if file and sha256:
        model = create()
        _load_kept(model, label, sha256)
        return model, sha256
    model = load()
    digest = weights_sha256(model)
    if file:
        write_cached(_kept_file(digest), weights_to_bytes(model))
    return model, digest


def with_weights_of(
    spec: BackboneSpec,
    file: Path | None,
    weights: bytes | None,
    create: Callable[[], nn.Module],
    load: Callable[[], nn.Module],
) -> nn.Module:
    """Make the network of a specification.

    Args:
        spec: specification of the backbone.
        file: file of weights in its name, or None.
        weights: weights that are loaded afterwards, so that any serve here; None to load those of
            the specification.
        create: function that makes the network with any weights.
        load: function that makes it with those of the library.

    Raises:
        UserError: the weights are not those of the specification.
    """
    if weights is not None:
        return create()
    if file:
        model = create()
        _load_kept(model, spec.name, spec.weights_sha256)
        return model
    model = load()
    digest = weights_sha256(model)
    if digest != spec.weights_sha256:
        raise UserError(
            f"backbone: {spec.name!r}: the library's weights are not those of before: sha256 "
            f"{digest} != {spec.weights_sha256}"
        )
    return model


def _kept_file(sha256: str) -> Path:
    return cache_folder() / f"weights-{sha256}.safetensors"


def _load_kept(model: nn.Module, label: str, sha256: str) -> None:
    """Load weights that `with_given_weights` kept."""
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
