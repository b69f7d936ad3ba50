"""`intertitle import`: convert a published data set to a corpus."""

from __future__ import annotations

from dataclasses import asdict
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.options import Json
from intertitle.jobs.progress import run_import
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.importers.declaration import Importer, Option
from intertitle.pipeline.importers.dispatch import IMPORTERS, options_of
from intertitle.pipeline.storage.paths import as_path

_IMPORTERS, _FAILURES = IMPORTERS.load_all()


def _import_corpus(
    format: Annotated[str, typer.Argument(help=f"Format of the data: {', '.join(_IMPORTERS)}.")],
    out: Annotated[
        UPath,
        typer.Option(
            parser=as_path, metavar="CORPUS", help="Folder or URL of the corpus to write."
        ),
    ],
    source: Annotated[
        list[UPath] | None,
        typer.Argument(
            parser=as_path, metavar="SOURCE", help="Files or folders of the data, as listed above."
        ),
    ] = None,
    json: Json = False,
    **options: Any,
) -> None:
    """Create a corpus from a published data set, a folder, or clips drawn by the program."""
    report = run_import(format, source or [], out, **options)
    for note in report.notes:
        console.echo(note)
    for name in report.missing[:20]:
        console.echo(f"missing: {one_line(name)}")
    if len(report.missing) > 20:
        console.echo(f"missing: {len(report.missing) - 20} more")
    console.echo(
        f"{report.corpus}: {report.items} items, {report.examples} examples, "
        f"{report.references} references, {len(report.missing)} missing files"
    )
    if json:
        console.result({**asdict(report), "missing": len(report.missing)})


def _usage(importer: Importer) -> tuple[str, str]:
    return f"{importer.name} {importer.arguments}".rstrip(), importer.summary


def _list() -> str:
    """Return the lines of the help that list the importers."""
    rows = [("FORMAT SOURCE...", ""), *map(_usage, _IMPORTERS.values())]
    width = max(len(usage) for usage, _ in rows)
    lines = [f"{usage:{width}}  {summary}".rstrip() for usage, summary in rows]
    return "\n".join(["\b", *lines, *_FAILURES.values()])


def _parameter(option: Option, takers: list[str]) -> Parameter:
    """Return an option as a parameter whose value is None if it is not given."""
    default = typer.Option(
        None, option.flag, help=f"{option.help} ({', '.join(takers)}).", metavar=option.metavar
    )
    return Parameter(
        option.name, Parameter.KEYWORD_ONLY, default=default, annotation=option.type | None
    )


@wraps(_import_corpus)
def import_corpus(**arguments: Any) -> None:
    """Import with the options of all importers; `given_options` checks which of them apply."""
    _import_corpus(**arguments)


_own = signature(_import_corpus, eval_str=True)
_parameters = [
    *(p.replace(kind=Parameter.KEYWORD_ONLY) for p in list(_own.parameters.values())[:-1]),
    *(_parameter(option, takers) for option, takers in options_of(_IMPORTERS)),
]
import_corpus.__signature__ = _own.replace(parameters=_parameters)  # type: ignore[attr-defined]
import_corpus.__annotations__ = {p.name: p.annotation for p in _parameters}
import_corpus.__doc__ = f"{_import_corpus.__doc__}\n\n{_list()}"
