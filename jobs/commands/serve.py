"""`intertitle serve`: answer requests over HTTP with trained models."""

from __future__ import annotations

import logging
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.options import Address, Json, TrackingUri, check_free
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import JobError, UserError, one_line
from intertitle.pipeline.storage.allowed_hosts import parse_hosts

if TYPE_CHECKING:
    from intertitle.jobs.serving.config import ServerConfig

_MIB = 2**20
# Time between two looks at what happened to the models.
_LOOK_S = 2.0


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models to serve: id or name of a run, models:/NAME@ALIAS or "
            "models:/NAME/VERSION; NAME=MODEL sets the name in URLs. An alias is followed when it "
            "moves.",
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; one that others reach needs a token in "
            "INTERTITLE_SERVE_TOKEN."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    replicas: Annotated[
        str, typer.Option(metavar="MIN:MAX", help="Number of replicas of each model.")
    ] = "1",
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of a replica; a fraction shares one.")
    ] = 0.0,
    canary: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the requests that models:/NAME@challenger answers, such as 10%.",
        ),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model that answers the requests for the model of its name too; MLflow gets both "
            "answers, and callers only the first.",
        ),
    ] = None,
    shadow_share: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the requests that --shadow gets.")
    ] = "100%",
    follow: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the aliases.")
    ] = 10.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Host that URLs in requests may name, https://HOST; repeatable."
        ),
    ] = None,
    feedback: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a corpus for each model, which judgements of its answers are added "
            "to; default: none is kept."
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Serve a page for browsers at /; needs the extra `page`.")
    ] = False,
    examples: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures and videos that the page offers as examples."),
    ] = None,
    max_body_mb: Annotated[
        int, typer.Option(min=1, help="Maximum size of the body of a request in MiB.")
    ] = 64,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests at a time; others get 503.")
    ] = 256,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Time limit for decoding a file in seconds.")
    ] = 30.0,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Maximum number of pixels of an image or frame.")
    ] = 100_000_000,
    check: Annotated[
        bool,
        typer.Option("--check", help="Load the models, print their memory, and end."),
    ] = False,
    address: Address = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Serve models over HTTP, on Ray Serve: an API with its description at /docs, and a page."""
    from intertitle.jobs.serving.config import (
        TOKEN_VARIABLE,
        LimitConfig,
        ServerConfig,
        check_exposure,
        hash_token,
        parse_models,
    )
    from intertitle.jobs.serving.http.proxy import set_limit
    from intertitle.training.tracking.store.sqlite import absolute

    _check_page(page, examples)
    low, high = _parse_replicas(replicas)
    token = hash_token(os.environ.get(TOKEN_VARIABLE))
    body_bytes = max_body_mb * _MIB
    config = ServerConfig(
        models=parse_models(models, canary, shadow, shadow_share),
        tracking_uri=absolute(tracking_store(tracking_uri)),
        min_replicas=low,
        max_replicas=high,
        gpus=gpus,
        follow_seconds=follow,
        allowed_hosts=parse_hosts(allow_host or ()),
        token_sha256=token,
        host_names=check_exposure(host, token),
        feedback=str(feedback.absolute()) if feedback else None,
        page=page,
        examples=str(examples.absolute()) if examples else None,
        limits=LimitConfig(
            body_bytes=body_bytes,
            pending_bytes=max(8 * body_bytes, 512 * _MIB),
            requests=max_requests,
            seconds=max_seconds,
            max_pixels=max_pixels,
        ),
    )
    if check:
        _check(config, json)
        return
    _resolve(config)
    if address is None:
        # A Serve that a given cluster runs already may listen there.
        check_free(host, port)
        set_limit(os.environ, body_bytes)
    with cluster(address):
        _run(config, host, port, json)


def _parse_replicas(text: str) -> tuple[int, int]:
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--replicas: {text!r}, allowed: a number from 1, or MIN:MAX")
    low, high = int(parts[0]), int(parts[-1])
    if low > high:
        raise UserError(f"--replicas: {text!r}, allowed: MIN:MAX with MIN at most MAX")
    return low, high


def _check_page(page: bool, examples: Path | None) -> None:
    """Check the options of the page.

    Raises:
        UserError: Gradio is not installed, or the examples are no folder, or for no page.
    """
    if page and find_spec("gradio") is None:
        raise UserError("--page: Gradio is not installed, allowed: pip install 'intertitle[page]'")
    if examples is not None and not (page and examples.is_dir()):
        raise UserError(f"--examples: {str(examples)!r}, allowed: a folder, with --page")


def _resolve(config: ServerConfig) -> None:
    """Check that the models exist, which takes a second, before Ray starts."""
    from intertitle.jobs.serving.models.loading import resolve_version

    for model in config.models:
        version = resolve_version(model.spec, config.tracking_uri)
        console.echo(f"{model.name}: {version}")


def _run(config: ServerConfig, host: str, port: int, json: bool) -> None:
    """Deploy the application and wait until this process is stopped."""
    import ray
    from ray import serve as ray_serve

    from intertitle.jobs.serving.config import APPLICATION, in_url
    from intertitle.jobs.serving.deployment import build_application

    quiet = {"log_level": "WARNING"}
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port},
        logging_config=quiet,
    )
    _check_listening(host, port)
    try:
        handle = ray_serve.run(
            build_application(config), name=APPLICATION, route_prefix="/", logging_config=quiet
        )
        url = f"http://{in_url(host)}:{port}"
        console.echo(f"serving {', '.join(m.name for m in config.models)} at {url}; {url}/docs")
        if json:
            console.result({"url": url, "models": [model.name for model in config.models]})
        since = time.time()
        while True:
            time.sleep(_LOOK_S)
            try:
                events: list[tuple[float, str]] = handle.events.remote(since).result(timeout_s=30)
            except (TimeoutError, ray.exceptions.RayError):
                # The replica restarts, or is busy: the events are there afterwards.
                continue
            for moment, line in events:
                since = max(since, moment)
                console.warn(line)
    except RuntimeError as error:
        raise JobError(f"serving: {one_line(str(error))}") from error
    finally:
        ray_serve.delete(APPLICATION)


def _check_listening(host: str, port: int) -> None:
    """Check that Serve, which a cluster runs only once, listens at the given address.

    Raises:
        UserError: the cluster's Serve was started with another address.
    """
    from intertitle.jobs.cluster.ray_internals import serve_address

    allowed_host, allowed_port = serve_address()
    if (allowed_host, allowed_port) != (host, port):
        raise UserError(
            f"--host, --port: {host}:{port}, allowed: {allowed_host}:{allowed_port}, where the "
            "cluster's Serve listens already"
        )


def _check(config: ServerConfig, json: bool) -> None:
    """Load each model in this process, and print what it takes."""
    import psutil

    from intertitle.jobs.serving.models.loading import load, resolve_version

    process = psutil.Process()
    rows: list[dict[str, Any]] = []
    loaded, empty = [], process.memory_info().rss
    for model in config.models:
        version = resolve_version(model.spec, config.tracking_uri)
        before = process.memory_info().rss
        loaded.append(load(model.name, version, config.limits))
        rss = process.memory_info().rss
        details = loaded[-1].details
        rows.append(
            {
                "name": model.name,
                "run": details.run,
                "version": details.version,
                "task": details.task,
                "parameters": details.parameters,
                "model_mb": round((rss - before) / _MIB),
                # A replica is a process like this one was, with one model.
                "replica_mb": round((empty + rss - before) / _MIB),
            }
        )
    columns = ("name", "run", "version", "task", "parameters", "model_mb", "replica_mb")
    console.table(
        "memory in MiB, of the model and of a replica with it",
        columns,
        [[row[column] if row[column] is not None else "" for column in columns] for row in rows],
    )
    total = sum(row["replica_mb"] for row in rows) * config.max_replicas
    console.echo(f"\nall replicas, without those of canaries and shadows: {total:,} MiB")
    if json:
        console.result({"models": rows, "total_mb": total})
