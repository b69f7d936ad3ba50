"""`intertitle backbones`: list the networks that features can be computed with."""

from __future__ import annotations

from importlib.util import find_spec

from intertitle.jobs import console
from intertitle.jobs.options import Json


def list_backbones(json: Json = False) -> None:
    """List the networks for `precompute --backbone`, with the sizes of their features."""
    with console.step("reading the networks"):
        rows = _rows()
    columns = ("backbone", "frame", "pooled", "grid", "what it is")
    console.table(
        "backbones: pixels of a frame, and sizes of its features",
        columns,
        [tuple("" if row[column] is None else row[column] for column in _KEYS) for row in rows],
    )
    if json:
        console.result({"backbones": rows})


_KEYS = ("backbone", "size", "pooled", "grid", "description")


def _rows() -> list[dict[str, str | None]]:
    from intertitle.pipeline.backbones import backbone_spec, efficientnet, onnx_models, timm_models
    from intertitle.pipeline.backbones.families import FAMILIES

    rows: list[dict[str, str | None]] = []
    for name in efficientnet.NAMES:
        pooled, grid = (backbone_spec(name, features) for features in ("pooled", "grid"))
        text = f"EfficientNet-Lite{name[-1]} (Tan & Le 2019), trained on ImageNet; comes along"
        shapes = (" × ".join(map(str, spec.shape)) for spec in (pooled, grid))
        rows.append(dict(zip(_KEYS, (name, f"{pooled.size}²", *shapes, text), strict=True)))
    timm = "" if find_spec("timm") else "; not installed: pip install 'intertitle[timm]'"
    for syntax, text in (
        (timm_models.SYNTAX, f"a network of the timm library, which downloads its weights{timm}"),
        (onnx_models.SYNTAX, "an exported network of your own"),
    ):
        rows.append(dict(zip(_KEYS, (syntax, None, None, None, text), strict=True)))
    for name in FAMILIES.added():
        rows.append(dict(zip(_KEYS, (name, None, None, None, "added by a package"), strict=True)))
    return rows
