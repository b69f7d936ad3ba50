"""Calls of the page by programs: no file but an upload is read, and the API's limits hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from intertitle.jobs.serving.config import ServerConfig
from tests.jobs.serving.page.conftest import page_server
from tests.jobs.serving.tiny_models import noise_png

MODELS = ("captioner", "translator")
FILES = {
    "picture": ("it-caption", "it-caption-picture"),
    "video": ("it-caption", "it-caption-video"),
    "files": ("it-batch", "it-batch-files"),
    "folder": ("it-batch", "it-batch-folder"),
}


class Program:
    """A program that calls the page as a browser does."""

    def __init__(self, url: str) -> None:
        self.url, self.session = url, "program"
        self.config = requests.get(f"{url}/config").json()
        self._ids = {part["props"].get("elem_id"): part["id"] for part in self.config["components"]}
        # The page learns which models there are.
        self._join(next(d for d in self.config["dependencies"] if d["targets"][0][1] == "load"), [])

    def upload(self, data: bytes, name: str) -> str:
        response = requests.post(
            f"{self.url}/gradio_api/upload", files={"files": (name, data)}, timeout=60
        )
        (path,) = response.json()
        return str(path)

    def click(self, button: str, model: str, **values: Any) -> str:
        """Click a button, and return all that comes back; the fields are named by their ids."""
        ids = {self._ids[name.replace("_", "-")]: value for name, value in values.items()}
        target = self._ids[button]
        call = next(d for d in self.config["dependencies"] if d["targets"][0][0] == target)
        empty = {part["id"]: "" for part in self.config["components"] if part["type"] == "textbox"}
        data = [(empty | ids).get(number) for number in call["inputs"]]
        # The first input of a tab is its model.
        data[0] = model
        return self._join(call, data)

    def _join(self, call: dict[str, Any], data: list[Any]) -> str:
        body = {"fn_index": call["id"], "data": data, "session_hash": self.session}
        joined = requests.post(f"{self.url}/gradio_api/queue/join", json=body, timeout=60)
        assert joined.status_code == 200, joined.text
        received = []
        query = {"session_hash": self.session}
        address = f"{self.url}/gradio_api/queue/data"
        with requests.get(address, query, stream=True, timeout=120) as response:
            for line in response.iter_lines():
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    received.append(json.dumps(event))
                    if event["msg"] in ("process_completed", "close_stream"):
                        break
        return "\n".join(received)


@pytest.fixture(scope="module")
def program(config: ServerConfig) -> Iterator[Program]:
    models = tuple(model for model in config.models if model.name in MODELS)
    with page_server(config.model_copy(update={"page": True, "models": models})) as url:
        yield Program(url)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture of the server, which is none of the callers' business."""
    file = tmp_path / "secret.png"
    file.write_bytes(noise_png(1))
    return file


def call_with(program: Program, kind: str, path: str, meta: bool) -> str:
    button, field = FILES[kind]
    file: dict[str, Any] = {"path": path}
    if meta:
        file["meta"] = {"_type": "gradio.FileData"}
    value = {
        "picture": file,
        "video": file,
        "files": [file],
        "folder": [file],
    }[kind]
    return program.click(button, "captioner", **{field.replace("-", "_"): value})


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "plain"])
@pytest.mark.parametrize("kind", FILES)
def test_no_file_of_the_server_is_read(
    program: Program, secret: Path, kind: str, meta: bool
) -> None:
    received = call_with(program, kind, str(secret), meta)
    # Gradio refuses what claims to be a file, and the page what does not.
    reasons = (
        "not uploaded by a user",
        "The 'meta' field must be",
        "a file that was just uploaded",
    )
    assert any(reason in received for reason in reasons), received
    assert "data:image" not in received
    uploads = Path(os.environ["GRADIO_TEMP_DIR"])
    assert not list(uploads.rglob(secret.name))


@pytest.mark.parametrize("kind", ["picture", "files", "folder"])
def test_an_upload_is_answered(program: Program, secret: Path, kind: str) -> None:
    path = program.upload(secret.read_bytes(), "mine.png")
    received = call_with(program, kind, path, meta=True)
    assert "data:image/jpeg" in received and '"success": true' in received


def test_functions_of_the_queue_cannot_be_called_past_it(program: Program) -> None:
    calls = [call for call in program.config["dependencies"] if call["backend_fn"]]
    waiting = [call["id"] for call in calls if call["queue"] is not False]
    assert waiting
    for number in waiting:
        body = {"fn_index": number, "data": [], "session_hash": "other"}
        response = requests.post(f"{program.url}/gradio_api/run/predict", json=body, timeout=60)
        assert response.status_code == 404


def test_texts_are_as_long_as_the_api_allows(program: Program) -> None:
    source = {"it_translate_source": "a" * 20_001}
    assert "at most 20000 characters" in program.click("it-translate", "translator", **source)
    lines = {"it_batch_lines": "a\n" * 65}
    assert "inputs: 65, allowed: 1 to 64" in program.click("it-batch", "translator", **lines)
