"""Settings of the server."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from intertitle.pipeline.errors import UserError

# Environment variable with the token that callers have to send.
TOKEN_VARIABLE = "INTERTITLE_SERVE_TOKEN"
APPLICATION = "intertitle"
_MIN_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL_URI = re.compile(r"models:/(?P<model>[^@/]+)(@(?P<alias>[^@/]+)|/\d+)")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Settings):
    """A model that the server answers with.

    Attributes:
        name: name of the model in URLs.
        spec: run id, name of a run, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        canary: model that answers a share of the requests instead; None if there is none.
        canary_share: share of the requests that the canary answers, 0..1.
        shadow: model that answers a share of the requests too, for comparison; None if there is
            none.
        shadow_share: share of the requests that the shadow answers, 0..1.
    """

    name: str
    spec: str
    canary: str | None = None
    canary_share: Share = 0.0
    shadow: str | None = None
    shadow_share: Share = 1.0


class LimitConfig(_Settings):
    """Limits on what callers may send and use.

    Attributes:
        body_bytes: maximum size of the body of a request, and of the files that it names by URL.
        body_seconds: maximum time between two parts of a body.
        pending_bytes: maximum size of the bodies and fetched files of all requests and jobs that
            are being answered.
        requests: maximum number of requests that are being answered or wait for a model, and of
            GET requests besides.
        hypotheses: maximum number of inputs of a request times the larger of beam and nbest, and
            of hypotheses that a replica computes at a time.
        decoders: maximum number of files that a replica decodes at a time.
        max_pixels: maximum number of pixels of an image or frame.
        seconds: time limit for decoding one file.
        fetch_seconds: time limit for fetching the URLs of a request.
    """

    body_bytes: Count = 64 * 2**20
    body_seconds: Seconds = 30.0
    pending_bytes: Count = 512 * 2**20
    requests: Count = 256
    hypotheses: Count = 512
    decoders: Count = 4
    max_pixels: Count = 100_000_000
    seconds: Seconds = 30.0
    fetch_seconds: Seconds = 20.0


class ServerConfig(_Settings):
    """Everything that determines a server.

    Attributes:
        models: models by the order in which they are listed.
        tracking_uri: tracking URI of the store that the models are in.
        min_replicas: minimum number of replicas of each model.
        max_replicas: maximum number of replicas of each model.
        gpus: number of GPUs of a replica, or a fraction of one.
        follow_seconds: time between two looks at the aliases of the registry.
        allowed_hosts: hosts that URLs in requests may name, SCHEME://HOST.
        token_sha256: SHA-256 hash of the token that callers have to send; None if there is none.
        host_names: names by which callers may reach the server; empty for any.
        feedback: folder of the corpora of feedback, one for each model; None keeps none.
        page: whether there is a page for browsers at `/`.
        examples: folder of the pictures and videos that the page offers; None if there is none.
        limits: limits on what callers may send and use.
    """

    models: tuple[ModelConfig, ...]
    tracking_uri: str
    min_replicas: Count = 1
    max_replicas: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0
    follow_seconds: Seconds = 10.0
    allowed_hosts: tuple[str, ...] = ()
    token_sha256: str | None = None
    host_names: tuple[str, ...] = ()
    feedback: str | None = None
    page: bool = False
    examples: str | None = None
    limits: LimitConfig = LimitConfig()


def parse_models(
    names: list[str], canary: str | None, shadow: str | None, shadow_share: str
) -> tuple[ModelConfig, ...]:
    """Parse the models of a command line, each `[NAME=]RUN`.

    Args:
        names: models; without a name, a model is called like its registered model or run.
        canary: share of the requests for each followed model that its challenger answers, such as
            `10%`; None if there is no canary.
        shadow: model that answers requests for the model of the same registered name in the
            background; None if there is none.
        shadow_share: share of these requests, such as `50%`.

    Raises:
        UserError: a name is invalid or occurs twice, or an option does not fit the models.
    """
    models: dict[str, ModelConfig] = {}
    for text in names:
        name, equals, spec = text.partition("=")
        if not equals:
            spec = text
            registered = _MODEL_URI.fullmatch(spec)
            name = registered["model"] if registered else spec
        if not _NAME.fullmatch(name):
            raise UserError(
                f"MODEL: {text!r}: name {name!r}, allowed: letters, digits, '.', '_' and '-'; give "
                "NAME=RUN"
            )
        if name in models:
            raise UserError(f"MODEL: {text!r}: name {name!r} twice, allowed: NAME=RUN")
        models[name] = ModelConfig(name=name, spec=spec)
    if canary is not None:
        share = _parse_share("--canary", canary)
        models = {name: _with_canary(model, share) for name, model in models.items()}
    if shadow is not None:
        followed = followed_model(shadow)
        of_same_name = [
            m.name for m in models.values() if followed and followed_model(m.spec) == followed
        ]
        if not of_same_name:
            raise UserError(
                f"--shadow: {shadow!r}, allowed: models:/NAME@ALIAS of a MODEL that is served"
            )
        shares = {"shadow": shadow, "shadow_share": _parse_share("--shadow-share", shadow_share)}
        models |= {key: models[key].model_copy(update=shares) for key in of_same_name}
    return tuple(models.values())


def followed_model(spec: str) -> str | None:
    """Return the registered model whose alias a model follows, or None if it follows none."""
    match = _MODEL_URI.fullmatch(spec)
    return match["model"] if match and match["alias"] else None


def _with_canary(model: ModelConfig, share: float) -> ModelConfig:
    registered = followed_model(model.spec)
    if registered is None:
        raise UserError(f"--canary: MODEL {model.spec!r}, allowed: models:/NAME@ALIAS")
    changes = {"canary": f"models:/{registered}@challenger", "canary_share": share}
    return model.model_copy(update=changes)


def _parse_share(option: str, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{option}: {text!r}, allowed: a share such as 10% or 0.1")
    return share


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """Return a host as a URL has it: an IPv6 address is in brackets."""
    return f"[{host}]" if ":" in host else host


def hash_token(token: str | None) -> str | None:
    """Return the hash of a token, or None if there is none.

    Raises:
        UserError: the token is short enough to be guessed.
    """
    if not token:
        return None
    if len(token) < _MIN_TOKEN:
        raise UserError(
            f"{TOKEN_VARIABLE}: {len(token)} characters, allowed: at least {_MIN_TOKEN}, such as "
            'of "$(openssl rand -hex 32)"'
        )
    return hashlib.sha256(token.encode()).hexdigest()


def check_exposure(host: str, token_sha256: str | None) -> tuple[str, ...]:
    """Check that a server that others can reach has a token.

    Returns:
        The names by which callers may reach the server: a page of another site must not reach a
        server of this machine by a name of its own. Empty if any name is allowed.

    Raises:
        UserError: other machines reach the address, and there is no token.
    """
    if is_loopback(host):
        return tuple(dict.fromkeys(("127.0.0.1", "localhost", "[::1]", in_url(host))))
    if token_sha256 is None:
        raise UserError(
            f"--host: {host!r}: others reach it, allowed: 127.0.0.1, or a token in {TOKEN_VARIABLE}"
        )
    return ()


def build_config(values: dict[str, Any]) -> ServerConfig:
    """Validate settings, such as the arguments in a Serve configuration file.

    Raises:
        UserError: a value is not allowed.
    """
    try:
        return ServerConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{field}: {first['input']!r}: {first['msg']}") from error
