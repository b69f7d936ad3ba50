"""What the server refuses before it reads a body, and files that are not what they should be."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from intertitle.jobs.serving.config import (
    LimitConfig,
    ModelConfig,
    ServerConfig,
    check_exposure,
    hash_token,
    parse_models,
)
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http.capacity import Capacity
from intertitle.jobs.serving.http.guard import Guard, error_response
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage import failpoints
from tests.jobs.serving.tiny_models import client, noise_png, png

TOKEN = "correct horse battery"
TEXT = {"inputs": [{"text": "gut"}]}
PREDICT = "/v1/models/classifier/predict"


@pytest.fixture(scope="module")
def locked(store: str) -> Iterator[TestClient]:
    """A server with a token and low limits."""
    settings = ServerConfig(
        models=(ModelConfig(name="classifier", spec="classifier"),),
        tracking_uri=store,
        token_sha256=hash_token(TOKEN),
        host_names=("127.0.0.1",),
    )
    limits = settings.limits.model_copy(
        update={"body_bytes": 10_000, "pending_bytes": 20_000, "requests": 4}
    )
    with client(settings.model_copy(update={"limits": limits})) as opened:
        yield opened


def basic(token: str) -> str:
    """What a browser sends whose user has given the token as the password."""
    return "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()


def test_a_token_is_needed_but_for_health(locked: TestClient) -> None:
    for authorization in ("", "Bearer wrong", f"Basic {TOKEN}", basic("wrong"), f"Digest {TOKEN}"):
        response = locked.post(PREDICT, json=TEXT, headers={"Authorization": authorization})
        assert response.status_code == 401
        # A browser asks for a password.
        assert response.headers["www-authenticate"].startswith("Basic realm=")
        assert response.json()["field"] == "Authorization"
        assert TOKEN not in response.text
    for path in ("/v1/models", "/metrics", "/docs", "/openapi.json"):
        assert locked.get(path).status_code == 401
    assert locked.get("/healthz").status_code == locked.get("/readyz").status_code == 200
    for authorization in (f"Bearer {TOKEN}", basic(TOKEN)):
        allowed = {"Authorization": authorization}
        assert locked.post(PREDICT, json=TEXT, headers=allowed).status_code == 200


def test_pages_of_other_sites_are_refused(locked: TestClient) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    response = locked.post(PREDICT, json=TEXT, headers={**allowed, "Host": "evil.example"})
    assert (response.status_code, response.json()["field"]) == (421, "Host")
    response = locked.post(PREDICT, json=TEXT, headers={**allowed, "Origin": "http://evil.example"})
    assert (response.status_code, response.json()["field"]) == (403, "Origin")
    foreign = {**allowed, "Origin": "http://evil.example"}
    assert locked.get("/v1/models", headers=foreign).status_code == 403
    own = {**allowed, "Origin": "http://127.0.0.1"}
    assert locked.post(PREDICT, json=TEXT, headers=own).status_code == 200


def test_bodies_are_limited_whether_their_size_is_claimed_or_not(locked: TestClient) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for response in (
        locked.post(PREDICT, content=b" " * 10_001, headers=allowed),
        # A generator has no size that the client could claim.
        locked.post(PREDICT, content=iter([b" " * 1000] * 11), headers=allowed),
        locked.post(PREDICT, content=b"", headers={**allowed, "Content-Length": str(2**30)}),
    ):
        assert (response.status_code, response.json()["field"]) == (413, "body")
    response = locked.post(PREDICT, content=b"", headers={**allowed, "Content-Length": "x"})
    assert (response.status_code, response.json()["field"]) == (400, "Content-Length")


def test_what_looks_something_up_has_no_body(locked: TestClient) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    for content in (b"x", iter([b"x"])):
        response = locked.request("GET", "/v1/models", content=content, headers=allowed)
        assert (response.status_code, response.json()["field"]) == (400, "body")
    # Neither without a token.
    assert locked.request("GET", "/healthz", content=b"x").status_code == 400


class Asked:
    """Requests to a guard of an application that reads a body and then waits."""

    def __init__(self, **limits: Any) -> None:
        limits = {"body_bytes": 10, "pending_bytes": 20, "requests": 1, **limits}
        config = ServerConfig(models=(), tracking_uri="", limits=LimitConfig(**limits))
        self.may_answer = asyncio.Event()
        self._guard = Guard(self._answer, config, Capacity(config.limits.pending_bytes))

    async def status(self, method: str, path: str, receive: Any = None, size: int = 0) -> int:
        """The status of the response."""
        messages: list[Message] = []

        async def empty() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            messages.append(message)

        headers = [(b"content-length", str(size).encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await self._guard(scope, receive or empty, send)
        status: int = messages[0]["status"]
        return status

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        except ApiError as error:
            # As the application does.
            await error_response(error)(scope, receive, send)
            return
        if scope["path"] != "/healthz":
            await self.may_answer.wait()
        await Response()(scope, receive, send)


def test_lookups_are_limited_too_and_health_is_not() -> None:
    async def work() -> None:
        asked = Asked()
        waiting = [asyncio.create_task(asked.status(m, "/")) for m in ("GET", "POST")]
        await asyncio.sleep(0.01)
        assert [await asked.status(m, "/") for m in ("GET", "HEAD", "POST")] == [503] * 3
        assert await asked.status("GET", "/healthz") == 200
        # An open page holds its request for long.
        page = asyncio.create_task(asked.status("GET", "/gradio_api/heartbeat/x"))
        await asyncio.sleep(0.01)
        assert not page.done()
        asked.may_answer.set()
        assert await asyncio.gather(*waiting, page) == [200, 200, 200]
        assert await asked.status("GET", "/") == 200

    asyncio.run(work())


def test_a_body_that_does_not_come_gives_its_bytes_back() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def work() -> None:
        asked = Asked(body_seconds=0.1, requests=9)
        asked.may_answer.set()
        stalled = [asyncio.create_task(asked.status("POST", "/", never, 10)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert await asked.status("POST", "/", size=1) == 503
        assert await asyncio.gather(*stalled) == [408, 408]
        assert await asked.status("POST", "/", size=10) == 200

    asyncio.run(work())


def send(api: TestClient, data: bytes, name: str = "a.png", **fields: str) -> dict[str, str]:
    response = api.post(
        "/v1/models/captioner/predict", files={"file": (name, data)}, data=dict(fields)
    )
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    error: dict[str, str] = response.json()
    assert error["field"].startswith("inputs.0.")
    return error


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"/etc/passwd",
        b"",
    ],
)
def test_what_is_no_picture_is_refused_by_its_content(api: TestClient, content: bytes) -> None:
    assert send(api, content, "a.png")["allowed"].startswith("an image or a video")


def test_a_picture_of_too_many_pixels_is_refused(api: TestClient) -> None:
    # Its header alone says so: the pixels are never there.
    huge = bytearray(png())
    huge[16:24] = (20_000).to_bytes(4) * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4)
    assert "pixels" in send(api, bytes(huge))["allowed"]


def test_a_url_and_a_path_are_never_read_from_the_servers_disk(
    api: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    for url in (
        f"file://{tmp_path}/secret.png",
        f"{tmp_path}/secret.png",
        "http://169.254.169.254/",
    ):
        response = api.post("/v1/models/captioner/predict", json={"inputs": [{"url": url}]})
        assert (response.status_code, response.json()["field"]) == (422, "inputs.0.url")
    response = api.post(
        "/v1/models/captioner/predict", data={"file": f"{tmp_path}/secret.png"}, files={"x": b""}
    )
    assert response.status_code == 422


def test_scripts_stay_text(api: TestClient) -> None:
    script = "<script>alert(1)</script>"
    assert send(api, b"nothing", f"{script}.png")["value"] == f"{script}.png"
    response = api.post(PREDICT, json={"inputs": [{"text": script}]})
    assert response.json()["results"][0]["input"] == script
    assert response.headers["content-type"] == "application/json"
    assert "default-src 'self'" in response.headers["content-security-policy"]


def test_base64_of_a_wrong_length(api: TestClient) -> None:
    data = base64.b64encode(png()).decode()[:-1]
    response = api.post("/v1/models/captioner/predict", json={"inputs": [{"data": data}]})
    assert response.json()["allowed"] == "base64"


def test_others_reach_the_server_only_with_a_token() -> None:
    assert "127.0.0.1" in check_exposure("127.0.0.1", None)
    assert "127.0.0.2" in check_exposure("127.0.0.2", None)
    assert "[::1]" in check_exposure("::1", None)
    assert check_exposure("0.0.0.0", hash_token(TOKEN)) == ()
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(UserError, match=r"--host: .*others reach it, allowed: 127.0.0.1, or a"):
            check_exposure(host, None)
    with pytest.raises(UserError, match="5 characters, allowed: at least 16"):
        hash_token("short")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a b"], {}, "name 'a b', allowed: letters"),
        (["a=x", "a=y"], {}, "name 'a' twice"),
        (["run"], {"canary": "10%"}, "--canary: MODEL 'run', allowed: models:/NAME@ALIAS"),
        (["models:/m@champion"], {"canary": "110%"}, "--canary: '110%', allowed: a share"),
        (["models:/m@champion"], {"shadow": "models:/n@challenger"}, "--shadow: 'models:/n"),
        (["models:/m@champion"], {"shadow": "models:/m/3"}, "--shadow: 'models:/m/3'"),
    ],
)
def test_models_of_the_command_line(
    names: list[str], options: dict[str, str], message: str
) -> None:
    settings = {"canary": None, "shadow": None, "shadow_share": "100%", **options}
    with pytest.raises(UserError) as refused:
        parse_models(names, **settings)
    assert message in str(refused.value)


def test_a_file_that_hangs_its_decoder_costs_itself_alone(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "decode=hang")
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path))
    models = tuple(model for model in config.models if model.name == "captioner")
    limits = config.limits.model_copy(update={"seconds": 2.0})
    files = [("file", (f"{n}.png", noise_png(100 + n))) for n in range(3)]
    with client(config.model_copy(update={"models": models, "limits": limits})) as opened:
        response = opened.post("/v1/models/captioner/predict", files=files)
    assert response.status_code == 200
    errors = [result["error"] for result in response.json()["results"]]
    (error,) = [item for item in errors if item is not None]
    assert "more than 2 s" in error["allowed"]
    assert len([item for item in errors if item is None]) == 2
