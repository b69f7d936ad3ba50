"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from upath import UPath

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

# How sentences are found: fields of `training.config.SearchConfig`, which checks them. What is not
# given is as the recipe has it.
_SEARCH: dict[str, Any] = {"rich_help_panel": "Search (default: the recipe's)"}
Beam = Annotated[int | None, typer.Option(help="Sentences kept; 1 is greedy.", **_SEARCH)]
LengthPenalty = Annotated[
    float | None, typer.Option(help="More is for longer sentences.", **_SEARCH)
]
CoveragePenalty = Annotated[
    float | None, typer.Option(help="More is for all of the source, by attention.", **_SEARCH)
]
MinTokens = Annotated[int | None, typer.Option(help="Of a sentence.", **_SEARCH)]
MaxTokens = Annotated[int | None, typer.Option(help="Of a sentence.", **_SEARCH)]
NoRepeatNgram = Annotated[
    int | None, typer.Option(help="No so many words in a row come twice; 0: they may.", **_SEARCH)
]
Prefix = Annotated[str | None, typer.Option(help="Each sentence begins with it.", **_SEARCH)]
Sampled = Annotated[
    bool | None,
    typer.Option(
        "--sample/--no-sample",
        help="Draw, as --temperature, --top-k and --top-p do too.",
        **_SEARCH,
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="Of drawing; below 1 is more careful.", **_SEARCH)
]
TopK = Annotated[
    int | None, typer.Option(help="Draw from the likeliest K words; 0: all.", **_SEARCH)
]
TopP = Annotated[
    float | None, typer.Option(help="Draw from the words likely by P together.", **_SEARCH)
]
Seed = Annotated[int | None, typer.Option(help="Of drawing.", **_SEARCH)]


def method_of(sampled: bool | None, *of_drawing: float | None) -> str | None:
    """The method that --sample and --no-sample name; what only drawing knows means --sample."""
    if sampled is None:
        return None if all(given is None for given in of_drawing) else "sample"
    return "sample" if sampled else "beam"


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
