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
    from intertitle.pipeline.backbones import backbone_spec
    from intertitle.pipeline.backbones.families import FAMILIES

    families, failures = FAMILIES.load_all()
    rows: list[dict[str, str | None]] = []
    for name in FAMILIES.names():
        family = families.get(name)
        if family is None:
            rows.append(_row(name, failures[name]))
        elif name in FAMILIES.own and not family.syntax:
            pooled, grid = (backbone_spec(name, features) for features in ("pooled", "grid"))
            shapes = (" × ".join(map(str, spec.shape)) for spec in (pooled, grid))
            rows.append(_row(name, family.summary, f"{pooled.size}²", *shapes))
        else:
            rows.append(_row(family.syntax or name, family.summary + _missing(family.extra)))
    return rows


def _row(
    name: str,
    description: str,
    size: str | None = None,
    pooled: str | None = None,
    grid: str | None = None,
) -> dict[str, str | None]:
    return dict(zip(_KEYS, (name, size, pooled, grid, description), strict=True))


def _missing(extra: str) -> str:
    """Return how to install the library that a family needs; "" if it is installed."""
    if not extra or find_spec(extra):
        return ""
    return f"; not installed: pip install 'intertitle[{extra}]'"
