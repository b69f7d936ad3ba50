"""The command `check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.commands.check.wording import EVIDENCE, spread
from intertitle.jobs.options import AllowHost, Json, allow_hosts, check_page
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.storage.paths import as_path

if TYPE_CHECKING:
    from intertitle.pipeline.inspection.check.run import CorpusReport

SHOWN = 10


def check(
    corpus: Annotated[
        UPath, typer.Argument(parser=as_path, metavar="CORPUS", help="Corpus to check.")
    ],
    features: Annotated[
        UPath | None,
        typer.Option(
            parser=as_path, metavar="STORE", help="Feature store whose features are compared too."
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(help="Read the items' files and compare their bytes and their pictures."),
    ] = True,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Page to write, with thumbnails.")
    ] = None,
    fix_leaks: Annotated[
        UPath | None,
        typer.Option(
            parser=as_path,
            metavar="OUT",
            help="Corpus to write without the examples that another split has too: test splits "
            "keep theirs, then val, then others, then train.",
        ),
    ] = None,
    allow_host: AllowHost = None,
    json: Json = False,
) -> None:
    """Check a corpus: sizes, lengths, vocabulary, and duplicates within and across its splits.

    Items are compared by the bytes of their files, by their pictures or sampled frames (re-encoded,
    scaled and slightly cropped copies are recognized), and with --features by their features. Texts
    without an item are compared by their source.
    """
    check_page("--page", page)
    allow_hosts(allow_host)
    opened = Corpus(corpus)
    with console.step("loading the libraries"):
        from intertitle.jobs.commands.check.page import render
        from intertitle.pipeline.feature_store.store import FeatureStore
        from intertitle.pipeline.inspection.check.run import (
            check_corpus,
            check_new_corpus,
            without_leaks,
        )
    if fix_leaks is not None:
        check_new_corpus(fix_leaks)
    store = None if features is None else FeatureStore(features)
    with console.bar("files") as bar:
        report = check_corpus(opened, store, read_files=files, on_progress=bar.update)
    _show(report)
    if page is not None:
        page.write_text(render(report, opened), "utf-8")
        console.echo(f"{page}: written")
    if fix_leaks is not None:
        fixed = without_leaks(opened, report, fix_leaks)
        counts = ", ".join(f"{split} {number:,}" for split, number in fixed.counts().items())
        console.echo(
            f"{fix_leaks}: {fixed.num_items():,} items, without {len(report.left_out):,} examples; "
            f"examples left: {counts}"
        )
    if json:
        console.result(as_json(report))


def _show(report: CorpusReport) -> None:
    kinds = ", ".join(f"{number:,} {kind}s" for kind, number in report.items.items())
    console.echo(f"{report.corpus}: {kinds or 'no items'}")
    if report.without_examples:
        console.echo(f"{report.without_examples:,} items have no example")
    rows = [
        (
            text.split,
            text.examples,
            text.items,
            spread(text.references),
            spread(text.target_words),
            spread(text.source_words),
            "" if text.unseen_words is None else f"{text.unseen_words:.2%}",
        )
        for text in report.splits
    ]
    columns = ("split", "examples", "items", "references", "words", "source words", "unseen")
    console.table("splits (minimum, median, maximum; words that train has not)", columns, rows)
    for text in report.splits:
        if text.unseen:
            words = ", ".join(f"{word} ({number})" for word, number in text.unseen[:SHOWN])
            console.echo(f"not in train, but in {text.split}: {words}")
    few = report.few_references
    if few is not None and few.examples:
        names = ", ".join(map(one_line, few.examples[:3]))
        console.echo(
            f"{len(few.examples):,} examples have fewer references than the usual {few.usual}: "
            f"{names}{' ...' if len(few.examples) > 3 else ''}"
        )
    if report.problems:
        problems = [(p.key, p.error, p.message) for p in report.problems[:SHOWN]]
        title = f"{len(report.problems):,} items whose files can't be read"
        console.table(title, ("item", "class", "message"), problems)
    _show_duplicates(report)


def _show_duplicates(report: CorpusReport) -> None:
    numbers = report.num_duplicates()
    if numbers:
        console.table(
            "duplicates, in pairs",
            ("evidence", "within a split", "across splits"),
            [(EVIDENCE[name], *numbers[name]) for name in EVIDENCE if name in numbers],
        )
        rows = [
            (EVIDENCE[pair.evidence], pair.similarity, pair.first, pair.second)
            for pair in report.duplicates[:SHOWN]
        ]
        console.table("examples", ("evidence", "similarity", "item", "item"), rows)
    if report.leaks:
        console.table(
            "leaks",
            ("splits", "groups of duplicates", "examples in each"),
            [
                (" and ".join(leak.splits), leak.groups, " and ".join(map(str, leak.examples)))
                for leak in report.leaks
            ],
        )
    compared = [f"{number:,} {name}" for name, number in report.checked.items() if number]
    scope = f" ({' and '.join(compared)} compared)" if compared else ""
    if report.leaks:
        console.echo(f"splits share examples{scope}; --fix-leaks OUT writes a corpus without")
    else:
        console.echo(f"no example of a split is in another one{scope}")


def as_json(report: CorpusReport) -> dict[str, Any]:
    """Return a report as values of JSON."""
    from dataclasses import asdict

    values = {**asdict(report), "left_out": sorted(report.left_out)}
    del values["crossing"], values["duplicates"]
    pairs = [asdict(pair) for pair in report.duplicates]
    within, across = pairs[report.crossing :], pairs[: report.crossing]
    return {**values, "duplicates": {"across_splits": across, "within_a_split": within}}
