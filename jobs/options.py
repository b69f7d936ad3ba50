"""Command-line options that several commands share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage import allowed_hosts
from intertitle.pipeline.storage.paths import as_path

Run = Annotated[str, typer.Argument(help="Id or name of a run, or models:/NAME@ALIAS.")]
Store = Annotated[
    UPath,
    typer.Argument(
        parser=as_path,
        metavar="STORE",
        help="Feature store, as written by `intertitle precompute`.",
    ),
]
Corpus = Annotated[
    UPath | None,
    typer.Option(
        parser=as_path,
        metavar="PATH",
        help="Corpus to use; default: the one the run was trained on.",
    ),
]
Features = Annotated[
    list[UPath] | None,
    typer.Option(
        parser=as_path,
        metavar="PATH",
        help="Feature store to use; repeated for several stores, in the order of the training; "
        "default: those the run was trained on.",
    ),
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(metavar="RUN", help="Further run to ensemble with; may be repeated."),
]

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCHEME://HOST",
        help="Host that URLs of items may refer to, besides the corpus' own; may be repeated. "
        f"Further hosts: the variable {allowed_hosts.VARIABLE}.",
    ),
]


def check_page(option: str, page: Path | None) -> None:
    """Check the path of a page to write, before the work that it shows.

    Raises:
        UserError: it does not end in .html, or its folder does not exist.
    """
    if page is None:
        return
    if page.suffix not in (".html", ".htm"):
        raise UserError(f"{option} {page}: a page of HTML, allowed: a name that ends in .html")
    if not page.absolute().parent.is_dir():
        raise UserError(f"{option} {page}: no folder {page.absolute().parent}")


def check_free(host: str, port: int) -> None:
    """Check that a server can listen at an address of this machine.

    Raises:
        UserError: another program listens there, or the address is not one of this machine.
    """
    if not is_free(host, port):
        raise UserError(
            f"--port {port}: another program listens there, or {host} is not an address of this "
            "machine, allowed: a free port"
        )


def is_free(host: str, port: int) -> bool:
    """Return whether a server can listen at an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe, suppress(OSError):
        # As servers do, so that connections that were just closed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return True
    return False


def allow_hosts(names: list[str] | None) -> None:
    """Allow hosts that `--allow-host` names, for this process and those that it starts.

    Raises:
        UserError: a name is not SCHEME://HOST.
    """
    if names:
        os.environ[allowed_hosts.VARIABLE] = ",".join(
            (*allowed_hosts.parse_hosts(names), *allowed_hosts.allowed_hosts())
        )


_SEARCH: dict[str, Any] = {"rich_help_panel": "Search (default: the recipe's)"}


def search_changes(
    beam: Annotated[
        int | None, typer.Option(help="Beam size; 1 is greedy search.", **_SEARCH)
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Exponent of the length penalty; larger favours long text.", **_SEARCH),
    ] = None,
    coverage_penalty: Annotated[
        float | None,
        typer.Option(
            help="Weight of the penalty for parts of the source without attention.", **_SEARCH
        ),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(
            help="Stop once patience * beam size hypotheses are finished; larger is slower.",
            **_SEARCH,
        ),
    ] = None,
    consensus: Annotated[
        float | None,
        typer.Option(
            help="If above 0, rank hypotheses by agreement; larger counts improbable ones more.",
            **_SEARCH,
        ),
    ] = None,
    min_tokens: Annotated[
        int | None, typer.Option(help="Minimum number of tokens to generate.", **_SEARCH)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Maximum number of tokens to generate.", **_SEARCH)
    ] = None,
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(help="Size of n-grams that must not repeat; 0 allows repeats.", **_SEARCH),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Text with which each output begins.", **_SEARCH)
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample",
            help="Sample instead of beam search; --temperature, --top-k or --top-p imply it.",
            **_SEARCH,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature; below 1 favours probable tokens.", **_SEARCH),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Sample from the K most probable tokens; 0: from all.", **_SEARCH),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from the most probable tokens that have probability P together.", **_SEARCH
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of sampling.", **_SEARCH)] = None,
) -> dict[str, Any]:
    """Return fields of `SearchConfig`; None keeps the recipe's value.

    Raises:
        UserError: a value is not allowed, or options of beam search and of sampling are combined.
    """
    beam_options = {
        "no-sample": None if sample else sample,
        "beam": beam,
        "coverage-penalty": coverage_penalty,
        "patience": patience,
        "consensus": consensus,
    }
    sampling_options = {
        "sample": sample or None,
        "temperature": temperature,
        "top-k": top_k,
        "top-p": top_p,
    }
    beam_flags, sampling_flags = (
        [f"--{flag}" for flag, value in flags.items() if value is not None]
        for flags in (beam_options, sampling_options)
    )
    if beam_flags and sampling_flags:
        raise UserError(
            f"{beam_flags[0]}: allowed only without {sampling_flags[0]}, which draws and keeps no "
            "beam"
        )
    method = "beam" if beam_flags else "sample" if sampling_flags else None
    changes = {
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
    _check_search(changes)
    return changes


def _check_search(changes: Mapping[str, Any]) -> None:
    """Check the values of search options before a model is loaded."""
    from intertitle.training.config.sections import SearchConfig
    from intertitle.training.config.toml_config import validate

    values = {name: value for name, value in changes.items() if value is not None}
    if "max_tokens" not in values:
        # The recipe's value is the limit of this one.
        values.pop("min_tokens", None)
    validate(SearchConfig, values, "", ("search",))


def with_search(command: Callable[..., None]) -> Callable[..., None]:
    """Add the search options to a command.

    In the command's signature they replace its parameter `search`, which receives the result of
    `search_changes`.
    """
    flags = signature(search_changes, eval_str=True).parameters

    @wraps(command)
    def searching(**arguments: Any) -> None:
        search = search_changes(**{name: arguments.pop(name) for name in flags})
        command(search=search, **arguments)

    own = signature(command, eval_str=True)
    taken = [
        item.replace(kind=Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        for item in (flags.values() if name == "search" else [parameter])
    ]
    searching.__signature__ = own.replace(parameters=taken)  # type: ignore[attr-defined]
    searching.__annotations__ = {item.name: item.annotation for item in taken}
    return searching


MaxSourceTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Maximum number of source tokens; longer texts are cut; default: the recipe's."
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Follow symbolic links to folders, and those that leave the folder."
    ),
]
AnimationsAsImages = Annotated[
    bool,
    typer.Option(
        "--animations-as-images",
        help="Use the first frame of an animated GIF, WebP, PNG or AVIF; default: read as a video.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT; default: start one on this machine."
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking URI; default: mlflow.db here or in the nearest folder above.",
    ),
]
Timezone = Annotated[str, typer.Option(help="Time zone of --cron, such as Europe/Berlin.")]
