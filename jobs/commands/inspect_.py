"""`intertitle inspect`: show the contents of a feature store and the frames it was made from."""

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

from intertitle.jobs import console
from intertitle.jobs.options import Json, Store
from intertitle.pipeline.corpus import Corpus, clean_text
from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.storage.paths import as_path, is_url

if TYPE_CHECKING:
    from intertitle.pipeline.feature_store.snapshot import ItemRecord
    from intertitle.pipeline.feature_store.store import FeatureStore

PICTURES = ("png", "pdf", "svg")
# Maximum number of rows of a table that is one of several on the page.
SHOWN = 10


def inspect_store(
    store: Store,
    corpus: Annotated[
        UPath | None,
        typer.Option(
            parser=as_path,
            metavar="CORPUS",
            help="Corpus that the store was made from; required by --contact-sheet.",
        ),
    ] = None,
    contact_sheet: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="File to draw frames of some items to: .png, .pdf or .svg."
        ),
    ] = None,
    items: Annotated[
        int, typer.Option(min=1, max=100, help="Number of items that the contact sheet shows.")
    ] = 12,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="List only the quarantined items.")
    ] = False,
    error: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="List only the quarantined items with this error class."
        ),
    ] = None,
    stopped: Annotated[
        bool,
        typer.Option(
            "--stopped", help="List the failed items of the last call if failures stopped it early."
        ),
    ] = False,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Id of the snapshot to show; default: the current one."),
    ] = None,
    json: Json = False,
) -> None:
    """Inspect a store: its counts, its quarantined items, and the frames its features come from.

    With --quarantine, --error or --stopped, output that is not a terminal has one line per item,
    without a heading: key, stage, class and message, separated by tabs. An item with an error of
    class "internal" has its traceback, in one line, as a further field.
    """
    from intertitle.pipeline.feature_store.gc import list_snapshots, require_snapshots
    from intertitle.pipeline.feature_store.store import FeatureStore
    from intertitle.pipeline.inspection.preview.summary import summarize

    if stopped:
        _list_stopped(store, error, json)
        return
    picture = _picture(contact_sheet, corpus)
    if snapshot is not None and (store / "CURRENT").is_file():
        require_snapshots(store, [snapshot])
    features = FeatureStore(store, snapshot)
    result = summarize(features, list_snapshots(store))
    if picture and corpus:
        # Drawing may fail, so it happens before anything is printed.
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
    """List the failed items of a call that failures stopped; no snapshot contains these items."""
    from intertitle.pipeline.feature_store.snapshot import read_stopped
    from intertitle.pipeline.inspection.preview.summary import quarantine_of

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
    """Print the summary of a store."""
    from intertitle.pipeline.feature_store.fingerprint import Fingerprint

    frames, shards = result["frames"], result["shards"]
    page = Table.grid(padding=(0, 2))
    page.add_column(style="dim")
    page.add_column(overflow="fold")
    page.add_row("store", escape(result["store"]))
    page.add_row("snapshot", result["snapshot"])
    page.add_row("published", _when(result["published"]))
    marks = (("degraded", "degraded"), ("missing_files", "without their file"))
    marked = [f"{result[name]:,} of these {label}" for name, label in marks if result[name]]
    degraded = f" ({', '.join(marked)})" if marked else ""
    page.add_row(
        "items",
        f"{result['items']:,}: {result['stored']:,} stored{degraded}, "
        f"{result['quarantined']:,} quarantined",
    )
    if result["stored"]:
        same = frames["min"] == frames["max"]
        per_item = f"{frames['min']:,}" + ("" if same else f" to {frames['max']:,}")
        page.add_row("frames", f"{frames['total']:,}, {per_item} an item")
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
        [(entry["items"], entry["reason"]) for entry in result["degraded_reasons"]],
    )
    _table(
        "other snapshots that can be read (`intertitle gc` removes them)",
        ["snapshot", "published", "items"],
        [(s["snapshot"], _when(s["published"]), s["items"]) for s in result["other_snapshots"]],
    )


def _list(records: Sequence[ItemRecord], error: str | None, result: dict[str, Any]) -> None:
    """Print quarantined items: a table on a terminal, else one line per item."""
    if not records and error is not None:
        classes = ", ".join(f"{q['error']} ({q['items']:,})" for q in result["quarantine"])
        line = f"no item in quarantine with error {error!r}; there are: {classes or 'none at all'}"
        console.note(line)
    elif not console.OUTPUT.is_terminal:
        for r in records:
            # `print`, because rich would turn the tabs into spaces.
            row = [clean_text(v or "") for v in (r.key, r.stage, r.error, r.message)]
            print(*row, *([one_line(r.traceback)] if r.traceback else []), sep="\t")
    elif records:
        rows = [(r.key, r.stage, r.error, r.message) for r in records]
        _table("quarantine", ["key", "stage", "class", "message"], rows, len(rows))
        for traceback in dict.fromkeys(r.traceback for r in records if r.traceback):
            key = next(r.key for r in records if r.traceback == traceback)
            lines = [one_line(line) for line in traceback.splitlines()]
            console.echo("\n".join((f"\n{clean_text(key)}", *lines)))
    else:
        console.echo("nothing is in quarantine")


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], limit: int = SHOWN
) -> None:
    if rows:
        # Keys and messages may contain anything, even rich markup or terminal control codes.
        safe = [[v if isinstance(v, int) else clean_text(str(v)) for v in r] for r in rows]
        console.table(title, columns, safe[:limit])
    if len(rows) > limit:
        console.echo(f"... and {len(rows) - limit:,} more kinds, see --json")


def _value(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _when(iso: str | None) -> str:
    """Format an ISO 8601 time in the local time zone."""
    if iso is None:
        return "at an unknown time"
    return f"{datetime.fromisoformat(iso).astimezone():%-d %B %Y, %H:%M}"


def _picture(name: str | None, corpus: UPath | None) -> Path | None:
    """Return the path of the contact sheet, checked before any work is done."""
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
    """Draw the contact sheet, write it to a file, and print the file's path."""
    from intertitle.pipeline.inspection.preview.contact_sheet import contact_sheet
    from intertitle.pipeline.inspection.preview.item_samples import sample_items

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
    console.note(f"{path}: {len(samples)} items")
