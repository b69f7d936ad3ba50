"""Judgements of answers, which become the corpus of feedback."""

from __future__ import annotations

import asyncio

import gradio as gr
from pydantic import ValidationError

from intertitle.jobs.serving.errors import ApiError, from_validation
from intertitle.jobs.serving.page import render
from intertitle.jobs.serving.page.desk import STATE_S, Answered, Desk, message
from intertitle.jobs.serving.schemas import Feedback


class Judgement:
    """Thumbs and a field for the right answer, where the server keeps feedback.

    Args:
        desk: models and records of the server.

    Attributes:
        answered: state with the last answer of the tab.
    """

    def __init__(self, desk: Desk) -> None:
        self.answered: gr.State = gr.State(None, time_to_live=STATE_S)
        corpora = desk.records.feedback
        if not corpora:
            return

        async def judge(is_good: bool, answered: Answered | None, correction: str) -> str:
            try:
                if answered is None:
                    raise ApiError(422, "answer", "none", "one that the model has given")
                feedback = Feedback(
                    run_id=answered.model.run_id,
                    answer=answered.result.text,
                    good=is_good,
                    correction=correction,
                    text=answered.text,
                )
                file = await asyncio.to_thread(desk.read, answered.file) if answered.file else None
                details = await desk.details(answered.name)
                num = await asyncio.to_thread(corpora[answered.name].add, details, feedback, file)
            except ValidationError as error:
                return render.error(message(from_validation(dict(error.errors()[0]))))
            except ApiError as error:
                return render.error(message(error))
            return render.status(f"Kept. Examples in the corpus of feedback: {num}.")

        correction = gr.Textbox(
            label="Right answer, if this one is wrong", elem_classes="it-correction"
        )
        with gr.Row():
            right = gr.Button("Right", size="sm", elem_classes="it-right")
            wrong = gr.Button("Wrong", size="sm", elem_classes="it-wrong")
        status = gr.HTML(elem_classes="it-feedback")
        for button, is_good in ((right, True), (wrong, False)):
            button.click(
                judge,
                [gr.State(is_good), self.answered, correction],
                status,
                api_visibility="private",
            )
