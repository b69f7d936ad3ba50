"""The page as a Gradio application that is mounted in the server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import FastAPI

from intertitle.jobs.serving.page import render
from intertitle.jobs.serving.page.batch import batch_tab
from intertitle.jobs.serving.page.better import better_tab
from intertitle.jobs.serving.page.desk import Desk, message
from intertitle.jobs.serving.page.inputs import keep_files
from intertitle.jobs.serving.page.tabs import (
    answer_tab,
    caption_tab,
    card_tab,
    translate_tab,
    write_tab,
)
from intertitle.jobs.serving.schemas import ModelDetails

if TYPE_CHECKING:
    from intertitle.jobs.serving.http.uploads import Uploads

_STYLE = Path(__file__).parent / "style.css"
# Fonts of the reader's system: none is loaded.
_FONTS = ["system-ui", "sans-serif"]
_MONOSPACE = ["ui-monospace", "monospace"]
# Calls that wait for a place, and browsers whose state is kept.
_QUEUE, _SESSIONS = 64, 200
_BETTER = "Which is better"

_Fits = Callable[[ModelDetails], bool]
_Build = Callable[[Desk, gr.Dropdown], None]
# Tabs by title: the models that they are for, and what builds them.
_TABS: dict[str, tuple[_Fits, _Build]] = {
    "Caption": (
        lambda model: model.visual_input != "nothing" and not model.has_source,
        caption_tab,
    ),
    "Ask": (lambda model: model.visual_input != "nothing" and model.has_source, answer_tab),
    "Translate": (
        lambda model: model.visual_input == "nothing" and model.has_source,
        translate_tab,
    ),
    "Write": (lambda model: model.output == "stream", write_tab),
    "Batch": (lambda model: model.output != "stream", batch_tab),
    "Model card": (lambda model: True, card_tab),
}


def mount_page(app: FastAPI, desk: Desk) -> FastAPI:
    """Add the page at `/`; return Gradio's application.

    Args:
        app: application, whose own paths go first.
        desk: models and records of the server.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    blocks = _build(desk)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=desk.body_bytes,
        ssr_mode=False,
        theme=_theme(),
        css=_STYLE.read_text("utf-8"),
    )
    # Without it, Gradio does not check that the files that callers name are uploads.
    blocks.has_launched = True
    mount: Any = app.routes[-1]
    desk.uploads.keep_current()
    _sweep(app, desk.uploads)
    mounted: FastAPI = mount.app
    return mounted


def _theme() -> Any:
    """Return Gradio's theme with the fonts of the system, and buttons whose text can be read."""
    fill, hover = "*primary_700", "*primary_800"
    return gr.themes.Default(font=_FONTS, font_mono=_MONOSPACE).set(
        button_primary_background_fill=fill,
        button_primary_background_fill_dark=fill,
        button_primary_background_fill_hover=hover,
        button_primary_background_fill_hover_dark=hover,
    )


def _sweep(app: FastAPI, uploads: Uploads) -> None:
    """Delete old uploads while the application runs, and the folder when it ends."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:
        async with uploads.swept(), inner(started) as state:
            yield state

    app.router.lifespan_context = lifespan


def _build(desk: Desk) -> gr.Blocks:
    keep_files()
    blocks: gr.Blocks
    with gr.Blocks(title="Intertitle", analytics_enabled=False) as blocks:
        gr.Markdown("# Intertitle")
        missing = gr.HTML(visible=False, elem_id="it-missing")
        tabs, models = [], []
        with gr.Tabs() as group:
            for title, (_, build) in _TABS.items():
                # Gradio can show a tab later, but not hide one.
                with gr.Tab(title, id=title, visible=False) as tab:
                    model = gr.Dropdown(label="Model", interactive=True)
                    build(desk, model)
                tabs.append(tab)
                models.append(model)
            with gr.Tab(_BETTER, id=_BETTER, visible=False) as better:
                pair = better_tab(desk)

        async def load() -> list[Any]:
            """Show the tabs of the models that answer now."""
            described, errors = await desk.models()
            fitting = [
                [name for name, details in described.items() if fits(details)]
                for fits, _ in _TABS.values()
            ]
            titles = [title for title, names in zip(_TABS, fitting, strict=True) if names]
            names = list(described)
            lines = "".join(render.error(message(error)) for error in errors)
            return [
                gr.update(value=lines, visible=bool(errors)),
                gr.update(selected=titles[0]) if titles else gr.update(),
                *(gr.update(visible=bool(chosen)) for chosen in fitting),
                gr.update(visible=len(names) > 1),
                *(
                    gr.update(choices=chosen, value=chosen[0] if chosen else None)
                    for chosen in fitting
                ),
                *(
                    gr.update(choices=names, value=name)
                    for name in (*names, *names, None, None)[:2]
                ),
            ]

        outputs = [missing, group, *tabs, better, *models, *pair]
        blocks.load(load, None, outputs, api_visibility="private")
    # Nothing that waits in the queue can be called past it.
    blocks.queue(api_open=False, max_size=_QUEUE, default_concurrency_limit=desk.calls)
    blocks.state_session_capacity = _SESSIONS
    return blocks
