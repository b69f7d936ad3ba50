"""Judgements of answers, which become the corpus of feedback."""

from __future__ import annotations

import asyncio

import gradio as gr

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.page import render
from intertitle.jobs.serving.page.desk import Answered, Desk, message


class Judgement:
    """Thumbs and a field for the right answer, where the server keeps feedback.

    Args:
        desk: models and records of the server.

    Attributes:
        answered: state with the last answer of the tab.
    """

    def __init__(self, desk: Desk) -> None:
        self.answered: gr.State = gr.State(None)
        corpus = desk.records.feedback
        if corpus is None:
            return

        async def judge(is_good: bool, answered: Answered | None, correction: str) -> str:
            try:
                if answered is None:
                    raise ApiError(422, "answer", "none", "one that the model has given")
                file = desk.read(answered.file) if answered.file else None
                num = await asyncio.to_thread(
                    corpus.add,
                    answered.name,
                    answered.model.run_id,
                    answered.result.text,
                    is_good,
                    correction,
                    answered.text,
                    file,
                )
            except ApiError as error:
                return render.error(message(error))
            return render.status(f"Kept. Examples in the corpus of feedback: {num}.")

        status = gr.HTML(elem_classes="it-feedback", render=False)
        correction = gr.Textbox(
            label="Right answer, if this one is wrong", elem_classes="it-correction"
        )
        with gr.Row():
            for label, is_good in (("Right", True), ("Wrong", False)):
                button = gr.Button(
                    label, size="sm", elem_classes="it-right" if is_good else "it-wrong"
                )
                button.click(
                    judge,
                    [gr.State(is_good), self.answered, correction],
                    status,
                    api_visibility="private",
                )
        status.render()
