"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer
from upath import UPath

from pipeline.errors import UserError
from pipeline.location import location

Run = Annotated[str, typer.Argument(help="A run's id or name, or models:/name@alias.")]
Corpus = Annotated[
    UPath | None,
    typer.Option(parser=location, metavar="PATH", help="default: the one it was trained on."),
]
Features = Annotated[
    UPath | None,
    typer.Option(parser=location, metavar="PATH", help="default: those it was trained on."),
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(metavar="RUN", help="A run that tells together with it; may be repeated."),
]

_SEARCH: dict[str, Any] = {"rich_help_panel": "Search (default: the recipe's)"}


def _search(
    beam: Annotated[
        int | None, typer.Option(help="Sentences kept; 1 is greedy.", **_SEARCH)
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="More is for longer sentences.", **_SEARCH)
    ] = None,
    coverage_penalty: Annotated[
        float | None, typer.Option(help="More is for all of the source, by attention.", **_SEARCH)
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(help="Done after so many times the beam's sentences.", **_SEARCH),
    ] = None,
    consensus: Annotated[
        float | None,
        typer.Option(
            help="Take what a beam's sentences agree on most; more counts the unlikely ones more.",
            **_SEARCH,
        ),
    ] = None,
    min_tokens: Annotated[int | None, typer.Option(help="Of a sentence.", **_SEARCH)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of a sentence.", **_SEARCH)] = None,
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(help="No so many words in a row come twice; 0: they may.", **_SEARCH),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Each sentence begins with it.", **_SEARCH)
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample",
            help="Draw, as --temperature, --top-k and --top-p do too.",
            **_SEARCH,
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of drawing; below 1 is more careful.", **_SEARCH)
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the likeliest K words; 0: all.", **_SEARCH)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the words likely by P together.", **_SEARCH)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of drawing.", **_SEARCH)] = None,
) -> dict[str, Any]:
    """Fields of `training.config.SearchConfig`, which checks them; None is as in the recipe.

    Raises:
        UserError: a beam is asked for and drawing as well.
    """
    of_a_beam = {
        "no-sample": None if sample else sample,
        "beam": beam,
        "coverage-penalty": coverage_penalty,
        "patience": patience,
        "consensus": consensus,
    }
    of_drawing = {
        "sample": sample or None,
        "temperature": temperature,
        "top-k": top_k,
        "top-p": top_p,
    }
    keep, draw = (
        [f"--{flag}" for flag, value in flags.items() if value is not None]
        for flags in (of_a_beam, of_drawing)
    )
    if keep and draw:
        raise UserError(f"{keep[0]}: allowed only without {draw[0]}, which draws and keeps no beam")
    method = "beam" if keep else "sample" if draw else None
    return {
        "method": method,
        "beam_size": beam,
        "length_penalty": length_penalty,
        "coverage_penalty": coverage_penalty,
        "patience": patience,
        "consensus": consensus,
        "min_tokens": min_tokens,
        "max_tokens": max_tokens,
        "no_repeat_ngram": no_repeat_ngram,
        "prefix": prefix,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }


def with_search(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of a search: its parameter `search` gets what `_search` makes of
    them, and stands in its help for all of them."""
    flags = signature(_search, eval_str=True).parameters

    @wraps(command)
    def searching(**given: Any) -> None:
        search = _search(**{name: given.pop(name) for name in flags})
        command(search=search, **given)

    own = signature(command, eval_str=True)
    taken = [
        one.replace(kind=Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        for one in (flags.values() if name == "search" else [parameter])
    ]
    searching.__signature__ = own.replace(parameters=taken)  # type: ignore[attr-defined]
    searching.__annotations__ = {one.name: one.annotation for one in taken}
    return searching


MaxSourceTokens = Annotated[
    int | None,
    typer.Option(min=1, help="A longer text that is read is cut; default: the recipe's."),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="In folders, follow links to folders and those that lead out."
    ),
]
AnimationsAsImages = Annotated[
    bool,
    typer.Option(
        "--animations-as-images",
        help="Of an animated GIF, WebP, PNG or AVIF take the first picture; default: a video.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="The last line printed is one JSON object with the result.")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster: auto, host:port or ray://host:port; default: this machine alone."
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="Where MLflow keeps runs; default: mlflow.db in this folder.",
    ),
]
Timezone = Annotated[str, typer.Option(help="Of --cron; as Europe/Berlin.")]
