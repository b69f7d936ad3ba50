"""Families of backbones by their names: the project's own, and those of installed packages.

The name of a backbone is that of its family, or begins with it and a colon: `timm:vgg16`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.pipeline.backbones.spec import BackboneSpec, Precision
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.plugins import Registry

if TYPE_CHECKING:
    from intertitle.pipeline.backbones.base import FrameNetwork


@dataclass(frozen=True, slots=True)
class Family:
    """A family of backbones.

    Attributes:
        name: name of the family.
        make_spec: function from the name of a backbone, the features ("pooled" or "grid") and the
            SHA-256 of the weights of an existing specification, or None, to the specification. It
            raises `UserError` for a name or features that are not allowed.
        make_network: function from a specification and the weights, as `weights_to_bytes` wrote
            them, to the network; None stands for the weights that the name refers to. A family
            without it runs ONNX files of its own, with `model_bytes`.
        model_bytes: function from a specification to an ONNX file that maps frames, uint8
            [N, H, W, 3], to features [N, *shape].
        gpu_precision: precision on a GPU, if the family has networks.
        syntax: names of its backbones, such as "timm:NAME"; empty if the family's own name is that
            of its only backbone.
        summary: what its backbones are, for the list of backbones.
        extra: extra of this project that installs the library of the same name, which it needs;
            empty if it needs none.
    """

    name: str
    make_spec: Callable[[str, str, str | None], BackboneSpec]
    make_network: Callable[[BackboneSpec, bytes | None], FrameNetwork] | None = None
    model_bytes: Callable[[BackboneSpec], bytes] | None = None
    gpu_precision: Precision = "float32"
    syntax: str = ""
    summary: str = "added by a package"
    extra: str = ""


_HERE = "intertitle.pipeline.backbones"
FAMILIES = Registry(
    "intertitle.backbones",
    "backbone",
    Family,
    {
        "efficientnet_lite0": f"{_HERE}.efficientnet:LITE_0",
        "efficientnet_lite1": f"{_HERE}.efficientnet:LITE_1",
        "efficientnet_lite2": f"{_HERE}.efficientnet:LITE_2",
        "timm": f"{_HERE}.timm_models:FAMILY",
        "torchvision": f"{_HERE}.pretrained.torchvision_models:FAMILY",
        "open_clip": f"{_HERE}.pretrained.open_clip_models:FAMILY",
        "onnx": f"{_HERE}.onnx_models:FAMILY",
    },
)


def family_of(name: str) -> Family:
    """Return the family of a backbone.

    Raises:
        UserError: there is none, or the package that adds it can't be imported.
    """
    prefix, colon, _ = name.partition(":")
    if prefix in FAMILIES.names():
        family = FAMILIES.load(prefix, "backbone")
        if bool(colon) == bool(family.syntax):
            return family
    known = ", ".join(family.syntax or family.name for family in FAMILIES.load_all()[0].values())
    raise UserError(f"backbone: {name!r}, allowed: {known}")
