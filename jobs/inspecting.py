"""`intertitle inspect`: what is in a store, and what its features were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from upath import UPath

from jobs import console
from jobs.options import Json
from pipeline.corpus import Corpus, clean_text
from pipeline.errors import UserError, one_line
from pipeline.location import is_url, location

if TYPE_CHECKING:
    from pipeline.snapshot import ItemRecord
    from pipeline.store import FeatureStore

PICTURES = ("png", "pdf", "svg")
# Rows of a table that is only a part of the page.
SHOWN = 10


def inspect_store(
    store: Annotated[
        UPath,
        typer.Argument(parser=location, metavar="STORE", help="Made by `intertitle precompute`."),
    ],
    corpus: Annotated[
        UPath | None,
        typer.Option(
            parser=location, metavar="CORPUS", help="That it was made from; for --contact-sheet."
        ),
    ] = None,
    contact_sheet: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw frames of some items: .png, .pdf or .svg."),
    ] = None,
    items: Annotated[
        int, typer.Option(min=1, max=100, help="How many items the contact sheet shows.")
    ] = 12,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="List the items in quarantine instead.")
    ] = False,
    error: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Only those with this class of error.")
    ] = None,
    stopped: Annotated[
        bool,
        typer.Option(
            "--stopped", help="List what failed in the last call, where too many failures ended it."
        ),
    ] = False,
    snapshot: Annotated[
        str | None, typer.Option(metavar="ID", help="Of a snapshot; default: the current one.")
    ] = None,
    json: Json = False,
) -> None:
    """Look into a store: its counts, its quarantine, and the frames its features were made of.

    With --quarantine, --error or --stopped, what is not a terminal gets a line an item, without a
    heading: key, stage, class and message with tabs between them; and, for an error of class
    "internal", its traceback in one line.
    """
    from pipeline.collect import list_snapshots, require_snapshots
    from pipeline.store import FeatureStore
    from pipeline.summary import summarize

    if stopped:
        _list_stopped(store, error, json)
        return
    picture = _picture(contact_sheet, corpus)
    if snapshot is not None and (store / "CURRENT").is_file():
        require_snapshots(store, [snapshot])
    features = FeatureStore(store, snapshot)
    result = summarize(features, list_snapshots(store))
    if picture and corpus:
        # Before anything is printed: it may fail.
        _draw(features, Corpus(corpus), picture, items)
        result["contact_sheet"] = str(picture)
    if quarantine or error is not None:
        listed = [r for r in features.snapshot.quarantined() if error in (None, r.error)]
        _list(listed, error, result)
        result["quarantined_items"] = _items(listed)
    else:
        _show(result)
    if json:
        console.result(result)


def _list_stopped(store: UPath, error: str | None, json: bool) -> None:
    """What failed in a call that was ended by it; no snapshot names these items."""
    from pipeline.snapshot import read_stopped
    from pipeline.summary import quarantine_of

    failures = read_stopped(store)
    if failures is None:
        raise UserError(f"{store}: --stopped: the last call was not ended by its failures")
    listed = [r for r in failures.records() if error in (None, r.error)]
    result = {"store": str(store), "quarantine": quarantine_of(failures)}
    _list(listed, error, result)
    if json:
        console.result({**result, "quarantined_items": _items(listed)})


def _items(records: Sequence[ItemRecord]) -> list[dict[str, Any]]:
    names = ("key", "stage", "error", "message", "traceback")
    return [{name: getattr(record, name) for name in names} for record in records]


def _show(result: dict[str, Any]) -> None:
    """The page a person sees."""
    from pipeline.fingerprint import Fingerprint

    frames, shards = result["frames"], result["shards"]
    page = Table.grid(padding=(0, 2))
    page.add_column(style="dim")
    page.add_column(overflow="fold")
    page.add_row("store", escape(result["store"]))
    page.add_row("snapshot", result["snapshot"])
    page.add_row("published", _when(result["published"]))
    marks = (("degraded", "degraded"), ("missing_files", "without their file"))
    marked = [f"{result[name]:,} of these {what}" for name, what in marks if result[name]]
    degraded = f" ({', '.join(marked)})" if marked else ""
    page.add_row(
        "items",
        f"{result['items']:,}: {result['stored']:,} stored{degraded}, "
        f"{result['quarantined']:,} quarantined",
    )
    if result["stored"]:
        same = frames["min"] == frames["max"]
        each = f"{frames['min']:,}" + ("" if same else f" to {frames['max']:,}")
        page.add_row("frames", f"{frames['total']:,}, {each} an item")
        page.add_row(
            "shards",
            f"{shards['number']:,}, {decimal(shards['bytes'])}, "
            f"{decimal(shards['bytes_per_item'])} an item",
        )
    page.add_row()
    for field in fields(Fingerprint):
        page.add_row(field.name, escape(_value(result["fingerprint"][field.name])))
    console.OUTPUT.print(page)
    _table(
        "quarantine (--quarantine lists it all)",
        ["stage", "class", "items", "for example"],
        [(q["stage"], q["error"], q["items"], q["message"]) for q in result["quarantine"]],
    )
    _table(
        "degraded",
        ["items", "why"],
        [(found["items"], found["reason"]) for found in result["degraded_reasons"]],
    )
    _table(
        "other snapshots that can be read (`intertitle gc` removes them)",
        ["snapshot", "published", "items"],
        [(s["snapshot"], _when(s["published"]), s["items"]) for s in result["other_snapshots"]],
    )


def _list(records: Sequence[ItemRecord], error: str | None, result: dict[str, Any]) -> None:
    """The items in quarantine: a table for a person, lines for a program."""
    if not records and error is not None:
        there = ", ".join(f"{q['error']} ({q['items']:,})" for q in result["quarantine"])
        line = f"no item in quarantine with error {error!r}; there are: {there or 'none at all'}"
        console.ERRORS.print(line, markup=False, soft_wrap=True)
    elif not console.OUTPUT.is_terminal:
        for r in records:
            # rich would turn the tabs into spaces.
            found = [clean_text(v or "") for v in (r.key, r.stage, r.error, r.message)]
            print(*found, *([one_line(r.traceback)] if r.traceback else []), sep="\t")
    elif records:
        rows = [(r.key, r.stage, r.error, r.message) for r in records]
        _table("quarantine", ["key", "stage", "class", "message"], rows, len(rows))
        for traceback in dict.fromkeys(r.traceback for r in records if r.traceback):
            key = next(r.key for r in records if r.traceback == traceback)
            lines = [one_line(line) for line in traceback.splitlines()]
            console.say("\n".join((f"\n{clean_text(key)}", *lines)))
    else:
        console.say("nothing is in quarantine")


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], shown: int = SHOWN
) -> None:
    if rows:
        # A key or a message may hold anything, even what rich or a terminal takes for an order.
        safe = [[v if isinstance(v, int) else clean_text(str(v)) for v in r] for r in rows]
        console.table(title, columns, safe[:shown])
    if len(rows) > shown:
        console.say(f"... and {len(rows) - shown:,} more kinds, see --json")


def _value(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _when(iso: str | None) -> str:
    """A time as a person here reads it."""
    if iso is None:
        return "at an unknown time"
    return f"{datetime.fromisoformat(iso).astimezone():%-d %B %Y, %H:%M}"


def _picture(name: str | None, corpus: UPath | None) -> Path | None:
    """Where the contact sheet goes; a mistake shows before any work is done."""
    if name is None:
        return None
    path = Path(name)
    if corpus is None:
        raise UserError(f"--contact-sheet {name}: needs --corpus, which says where the files are")
    if is_url(name) or path.suffix.lower().removeprefix(".") not in PICTURES:
        raise UserError(f"--contact-sheet {name}: allowed: a local file, .{', .'.join(PICTURES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--contact-sheet {name}: can't be written: not in a folder that exists")
    return path


def _draw(store: FeatureStore, corpus: Corpus, path: Path, num_items: int) -> None:
    """Draw the contact sheet, and say so."""
    from pipeline.contact_sheet import contact_sheet
    from pipeline.samples import sample_items

    samples = []
    fingerprint = store.snapshot.fingerprint
    stored = store.snapshot.counts()["stored"]
    num_items = min(num_items, stored)
    with console.bar("frames") as bar:
        for sample in sample_items(store.snapshot, corpus, num_items):
            samples.append(sample)
            bar.update(len(samples), num_items)
    size = f"{fingerprint.size} × {fingerprint.size} pixels, as the network saw them"
    picture = contact_sheet(
        samples,
        title=store.path.resolve().name or str(store.path),
        subtitle=f"{len(samples):,} of {stored:,} stored items  ·  {fingerprint.sampling}  ·  "
        f"{size}  ·  snapshot {store.snapshot_id[:12]}",
        format=path.suffix.lower().removeprefix("."),
    )
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise UserError(f"--contact-sheet {path}: can't be written: {error.strerror}") from error
    console.ERRORS.print(f"{path}: {len(samples)} items", markup=False, soft_wrap=True)
