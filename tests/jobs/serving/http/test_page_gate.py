"""Routes of Gradio that browsers reach, and files that they may fetch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from intertitle.jobs.serving.http.page_gate import PageGate
from intertitle.jobs.serving.http.uploads import Uploads


async def headers_of(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the names of the headers that it gets."""
    names = [name.decode() for name, _ in scope["headers"]]
    await JSONResponse(names)(scope, receive, send)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    return Uploads()


@pytest.fixture
def gate(uploads: Uploads) -> TestClient:
    return TestClient(PageGate(headers_of, uploads))


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/process_recording",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/component_server",
        "/gradio_api/call/predict",
        "/gradio_api/api/predict",
        "/gradio_api/stream/a",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/file=https://example.org/a.png",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=",
        "/monitoring",
        "/login",
    ],
)
def test_routes_that_the_page_does_not_need_are_hidden(gate: TestClient, path: str) -> None:
    response = gate.get(path)
    assert (response.status_code, response.json()["field"]) == (404, "path")


def test_uploads_can_be_fetched_and_what_they_lead_to_cannot(
    gate: TestClient, uploads: Uploads, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    (uploads.folder / "link").symlink_to(secret)
    (uploads.folder / "upload").touch()
    up = "../" * len(uploads.folder.parts)
    statuses = {
        name: gate.get(f"/gradio_api/file={uploads.folder}/{name}").status_code
        for name in ("upload", "link", f"{up}{secret}".replace("../", "..%2F"))
    }
    assert list(statuses.values()) == [200, 404, 404]


def test_gradio_learns_of_no_origin_that_it_could_share_answers_with(gate: TestClient) -> None:
    names = gate.get("/config", headers={"Origin": "http://testserver"}).json()
    assert "host" in names and "origin" not in names


def test_old_uploads_are_deleted_and_what_the_page_offers_stays(uploads: Uploads) -> None:
    example, old, new = (uploads.folder / name / "file" for name in ("example", "old", "new"))
    for file in (example, old, new):
        file.parent.mkdir()
        file.touch()
        if file is example:
            uploads.keep_current()
    for path in (example, old, old.parent):
        os.utime(path, (0, 0))
    uploads.sweep(60)
    assert example.exists() and new.exists() and not old.exists()


def test_uploads_do_not_fill_the_disk(
    gate: TestClient, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intertitle.jobs.serving.http.uploads.MAX_BYTES", 10)
    file = uploads.folder / "upload"
    file.write_bytes(b"012345678")
    assert gate.post("/gradio_api/upload").status_code == 200
    file.write_bytes(b"0123456789")
    refused = gate.post("/gradio_api/upload")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "600")
    assert gate.get("/config").status_code == 200


def test_folders_of_killed_servers_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    abandoned, other = tmp_path / "intertitle-page-old", tmp_path / "other"
    for folder in (abandoned, other):
        folder.mkdir()
        (folder / "upload").touch()
    running = Uploads()
    assert not abandoned.exists() and other.exists()
    Uploads()
    assert running.folder.exists()
