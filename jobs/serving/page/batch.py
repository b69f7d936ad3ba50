"""Tab that answers many files or texts and returns a table."""

from __future__ import annotations

import asyncio
import csv
import json
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.page import card, render
from intertitle.jobs.serving.page.desk import CALLS, Desk, check_input, message
from intertitle.jobs.serving.page.inputs import keep_files
from intertitle.jobs.serving.schemas import MAX_INPUTS, ModelDetails, Options, Result

_LOOK_S = 0.5
# What is raised for a zip that is damaged, encrypted or compressed by an unknown method.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
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
            label="Files, or a zip of files", file_count="multiple", elem_id="it-batch-files"
        )
        folder = gr.File(label="Or a folder", file_count="directory", elem_id="it-batch-folder")
    keep_files(files)
    keep_files(folder)
    texts = gr.Textbox(
        label="Texts, one in each line; or one question about all files",
        lines=3,
        elem_id="it-batch-lines",
    )
    button = gr.Button("Answer all", variant="primary", elem_id="it-batch")
    progress = gr.HTML(elem_id="it-batch-progress")
    output = gr.HTML(elem_id="it-batch-table")
    written = gr.File(label="Results", elem_id="it-batch-results", interactive=False)

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
                yield render.status(line), "", None
                await asyncio.sleep(_LOOK_S)
                job = desk.jobs.status(job.id)
            if job.error is not None:
                raise ApiError(503, **job.error.model_dump())
        except ApiError as error:
            yield render.error(message(error)), "", None
            return
        with tempfile.TemporaryDirectory(prefix="intertitle-batch-") as directory:
            names = await asyncio.to_thread(_write, Path(directory), job.results)
            # Gradio has copied the files when it comes back.
            yield render.status(f"{job.done} answered."), card.batch(job.results), names

    inputs = [model, files, folder, texts]
    outputs = [progress, output, written]
    button.click(run, inputs, outputs, api_visibility="private", concurrency_id=CALLS)


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

    def add(name: str, data: bytes) -> None:
        entries.append((name, data))
        total = sum(len(content) for _, content in entries)
        if total > desk.body_bytes or len(entries) > MAX_INPUTS:
            allowed = f"at most {desk.body_bytes:,} bytes and {MAX_INPUTS} files in all"
            raise ApiError(413, "files", name, allowed)

    for name in paths:
        path = desk.uploaded(name)
        if not zipfile.is_zipfile(path):
            add(path.name, desk.read(name))
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir():
                        with archive.open(entry) as file:
                            # What the archive claims about its sizes is not trusted.
                            add(entry.filename, file.read(desk.body_bytes + 1))
        except _DAMAGED as error:
            allowed = f"a zip that can be unpacked: {error}"
            raise ApiError(422, "files", path.name, allowed) from error
    return entries


def _write(folder: Path, results: Sequence[Result]) -> list[str]:
    """Write the answers as CSV and JSON lines; return the files."""
    rows = [
        {
            "input": result.input,
            "text": result.text,
            "score": result.score,
            "error": result.error.allowed if result.error else "",
        }
        for result in results
    ]
    with (folder / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(lines, "utf-8")
    return [str(folder / "answers.csv"), str(folder / "answers.jsonl")]
