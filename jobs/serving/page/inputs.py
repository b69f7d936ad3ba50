"""Inputs of pictures and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import ListFiles

from intertitle.pipeline.decoding.endings import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Empties the second input if the first one has got a file.
_EMPTY_OTHER = "(file, other) => file ? null : other"
_MAX_EXAMPLES = 6
_gradio_move = Block.async_move_resource_to_block_cache


def picture_input(elem_id: str, examples: Sequence[Path] = ()) -> gr.Image:
    """Return an input of a picture that is dropped, pasted or shot; its value is a path."""
    picture = gr.Image(
        label="Picture",
        sources=["upload", "clipboard", "webcam"],
        type="filepath",
        height=260,
        elem_id=elem_id,
        buttons=[],
    )
    _offer(picture, examples, IMAGE_SUFFIXES)
    return picture


def video_input(elem_id: str, examples: Sequence[Path] = ()) -> gr.Video:
    """Return an input of a video that is dropped or filmed; its value is a path."""
    video = gr.Video(
        label="Video",
        sources=["upload", "webcam"],
        include_audio=False,
        height=260,
        elem_id=elem_id,
        buttons=[],
    )
    _offer(video, examples, VIDEO_SUFFIXES)
    return video


def media_inputs(elem_id: str, examples: Sequence[Path]) -> tuple[gr.Image, gr.Video]:
    """Return inputs of a picture and of a video; a file in one of them empties the other."""
    with gr.Tab("Picture"):
        picture = picture_input(f"{elem_id}-picture", examples)
    with gr.Tab("Video"):
        video = video_input(f"{elem_id}-video", examples)
    for changed, emptied in ((picture, video), (video, picture)):
        changed.change(
            None,
            [changed, emptied],
            emptied,
            js=_EMPTY_OTHER,
            show_progress="hidden",
            api_visibility="private",
        )
    return picture, video


def keep_files() -> None:
    """Let components give the paths that callers name: this process decodes and copies nothing.

    `Desk.uploaded` checks them, and URLs are refused. The classes are changed, because Gradio makes
    a new component when an example is chosen; subclasses would make it write stub files next to
    this module.
    """
    component: Any
    for component in (gr.Image, gr.Video, gr.File):
        component.preprocess = _paths
    block: Any = Block
    block.async_move_resource_to_block_cache = _move


async def _move(block: Any, path: Any) -> Any:
    if "://" in str(path):
        raise gr.Error("file: a URL, allowed: a file that is uploaded")
    return await _gradio_move(block, path)


def _paths(_: Any, payload: Any) -> str | list[str] | None:
    if isinstance(payload, ListFiles):
        return [file.path for file in payload]
    return str(payload.path) if payload and payload.path else None


def example_files(folder: Path) -> list[Path]:
    """Return the pictures and videos in a folder that the page offers."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [
        path
        for suffixes in (IMAGE_SUFFIXES, VIDEO_SUFFIXES)
        for path in [f for f in files if f.suffix.lower() in suffixes][:_MAX_EXAMPLES]
    ]


def _offer(component: Any, files: Sequence[Path], suffixes: frozenset[str]) -> None:
    chosen = [str(path) for path in files if path.suffix.lower() in suffixes]
    if chosen:
        gr.Examples(chosen, component, label="Examples", api_visibility="private")
