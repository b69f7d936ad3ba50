"""Tab that answers many files or texts and returns a table."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.page import card, render
from intertitle.jobs.serving.page.desk import Desk, check_input, message
from intertitle.jobs.serving.schemas import MAX_INPUTS, ModelDetails, Options, Result

_LOOK_S = 0.5
# Height of an input of files in pixels.
_HEIGHT = 160
# Group of the handlers that wait for jobs, and how many of them wait at a time: the calls of the
# other tabs go on.
_JOBS, _MAX_JOBS = "jobs", 4
# Maximum size of the directory of a zip.
_MAX_DIRECTORY = 2**20
# What is raised for a zip that is damaged or encrypted.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


def batch_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab. The answers are a job, which goes on if the page is closed."""
    with gr.Row():
        files = gr.File(
            label="Files, or a zip of files",
            file_count="multiple",
            height=_HEIGHT,
            elem_id="it-batch-files",
        )
        folder = gr.File(
            label="Or a folder",
            file_count="directory",
            height=_HEIGHT,
            elem_id="it-batch-folder",
        )
    texts = gr.Textbox(
        label="Texts, one in each line; or one question about all files",
        lines=3,
        elem_id="it-batch-lines",
    )
    button = gr.Button("Answer all", variant="primary", elem_id="it-batch")
    progress = gr.HTML(elem_id="it-batch-progress")
    output = gr.HTML(elem_id="it-batch-table")
    written = gr.File(label="Results", visible=False, elem_id="it-batch-results", interactive=False)

    async def run(
        name: str | None, paths: list[str] | None, more: list[str] | None, lines: str
    ) -> AsyncIterator[Any]:
        try:
            details = await desk.details(name)
            uploaded = [*(paths or ()), *(more or ())]
            queries = await asyncio.to_thread(build_queries, desk, details, uploaded, lines)
            job = desk.jobs.start(desk.route(name), queries, max_frames=1)
            while job.state == "running":
                line = f"{job.done} of {job.total}; job {job.id}, see /v1/jobs/{job.id}"
                yield render.status(line), "", gr.update(visible=False)
                await asyncio.sleep(_LOOK_S)
                job = desk.jobs.status(job.id)
            if job.error is not None:
                raise ApiError(503, **job.error.model_dump())
        except ApiError as error:
            yield render.error(message(error)), "", gr.update(visible=False)
            return
        with tempfile.TemporaryDirectory(prefix="intertitle-batch-") as directory:
            names = await asyncio.to_thread(write_answers, Path(directory), job.results)
            # Gradio has copied the files when it comes back.
            table, results = card.batch(job.results), gr.update(value=names, visible=True)
            yield render.status(f"{job.done} answered."), table, results

    inputs = [model, files, folder, texts]
    outputs = [progress, output, written]
    button.click(
        run,
        inputs,
        outputs,
        api_visibility="private",
        concurrency_id=_JOBS,
        concurrency_limit=_MAX_JOBS,
    )


def build_queries(
    desk: Desk, details: ModelDetails, paths: Sequence[str], lines: str
) -> list[Query]:
    """Return the inputs of a job; blocks.

    Raises:
        ApiError: a file or a text is not allowed, or there are too many.
    """
    texts: list[str | None] = [line for line in lines.splitlines() if line.strip()]
    is_visual = details.visual_input != "nothing"
    if is_visual:
        question = (texts or [""])[0] if details.has_source else None
        inputs = [(name, question, data) for name, data in read_files(desk, paths)]
    else:
        inputs = [("", text, b"") for text in texts]
    if not 0 < len(inputs) <= MAX_INPUTS:
        raise ApiError(422, "inputs", str(len(inputs)), f"1 to {MAX_INPUTS}")
    for name, text, _ in inputs:
        check_input(text, name)
    options = Options(frames=is_visual)
    return [
        Query(name, text, data if is_visual else None, n, options)
        for n, (name, text, data) in enumerate(inputs)
    ]


def read_files(desk: Desk, paths: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return the names and contents of files, and of the files in zips, within the limits.

    Raises:
        ApiError: a file is not an upload, a zip is damaged, or the limits are exceeded.
    """
    entries: list[tuple[str, bytes]] = []
    total = 0

    def add(name: str, data: bytes) -> None:
        nonlocal total
        entries.append((name, data))
        total += len(data)
        if total > desk.body_bytes or len(entries) > MAX_INPUTS:
            allowed = f"at most {desk.body_bytes:,} bytes and {MAX_INPUTS} files in all"
            raise ApiError(413, "files", name, allowed)

    for name in paths:
        path = desk.uploaded(name)
        if not zipfile.is_zipfile(path):
            add(path.name, desk.read(name))
            continue
        try:
            for entry, data in _unzip(path, desk.body_bytes + 1):
                add(entry, data)
        except _DAMAGED as error:
            allowed = f"a zip that can be unpacked: {error}"
            raise ApiError(422, "files", path.name, allowed) from error
    return entries


class _ZipFile(io.FileIO):
    """File of a zip, of which a limited number of bytes is read at once.

    Attributes:
        max_read: maximum number of bytes; None if it does not matter.
    """

    max_read: int | None = _MAX_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if self.max_read is not None and size is not None and size > self.max_read:
            allowed = f"a zip whose directory has at most {self.max_read:,} bytes"
            raise ApiError(413, "files", Path(str(self.name)).name, allowed)
        return super().read(size) or b""


def _unzip(path: Path, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each file in a zip, and its content up to a size.

    What the zip claims about its sizes is not trusted.

    Raises:
        ApiError: the directory, which is read and parsed at once, is too large, or a file is
            compressed by a method other than deflate, which alone is inflated in pieces.
    """
    with _ZipFile(path) as file, zipfile.ZipFile(file) as archive:
        file.max_read = None
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                allowed = "a zip of files that are stored or deflated"
                raise ApiError(422, "files", entry.filename, allowed)
            with archive.open(entry) as opened:
                yield entry.filename, opened.read(max_bytes)


def write_answers(folder: Path, results: Sequence[Result]) -> list[str]:
    """Write the answers as CSV, for spreadsheets, and as JSON lines; return the files."""
    rows = [
        {
            "input": result.input,
            "text": result.text,
            "score": result.score,
            "warnings": "; ".join(result.warnings),
            "error": result.error.allowed if result.error else "",
        }
        for result in results
    ]
    with (folder / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(lines, "utf-8")
    return [str(folder / "answers.csv"), str(folder / "answers.jsonl")]


def _cell(value: object) -> object:
    """Return a value that a spreadsheet does not take for a formula: such a text gets a quote."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
