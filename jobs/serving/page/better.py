"""Tab that shows the answers of two models without their names, and counts votes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import gradio as gr

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.page import render
from intertitle.jobs.serving.page.desk import CALLS, STATE_S, Answered, Desk, message
from intertitle.jobs.serving.page.inputs import media_inputs
from intertitle.jobs.serving.records.votes import Choice

_CHOICES: dict[str, Choice] = {
    "Left is better": "first",
    "Equal": "tie",
    "Right is better": "second",
}
# Pairs of answers that wait for a vote; the oldest make room for others.
_MAX_PAIRS = 1000


def better_tab(desk: Desk) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Build the tab; return the choices of the two models."""
    with gr.Row():
        first = gr.Dropdown(label="First model", interactive=True)
        second = gr.Dropdown(label="Second model", interactive=True)
    with gr.Row():
        picture, video = media_inputs("it-vote", desk.examples)
    text = gr.Textbox(label="Text or question", elem_id="it-vote-source")
    button = gr.Button("Answer twice", variant="primary", elem_id="it-vote-run")
    with gr.Row():
        left = gr.HTML(elem_id="it-vote-left")
        right = gr.HTML(elem_id="it-vote-right")
    # The id of the answers in `pairs`.
    pair: gr.State = gr.State(None, time_to_live=STATE_S)
    pairs: dict[str, list[Answered]] = {}

    async def run(
        names: tuple[str | None, str | None], file: str | None, source: str
    ) -> list[Answered]:
        if names[0] == names[1]:
            raise ApiError(422, "models", str(names[0] or ""), "two that differ")
        answers = []
        for name in names:
            details = await desk.details(name)
            is_visual = details.visual_input != "nothing"
            query = await desk.query(
                file if is_visual else None, source if details.has_source else None
            )
            answered = await desk.answer(details.name, query, file)
            assert answered is not None
            answers.append(answered)
        random.shuffle(answers)
        return answers

    async def show(
        first_name: str | None,
        second_name: str | None,
        image: str | None,
        film: str | None,
        source: str,
    ) -> Sequence[Any]:
        try:
            answers = await run((first_name, second_name), film or image, source)
        except ApiError as error:
            return render.error(message(error)), "", None, ""
        while len(pairs) >= _MAX_PAIRS:
            del pairs[next(iter(pairs))]
        number = uuid4().hex
        pairs[number] = [item.brief() for item in answers]
        texts = [render.words(item.result.text) + render.notes(item.result) for item in answers]
        return *texts, number, ""

    async def vote(label: str, number: str | None) -> tuple[str, None]:
        # Of two votes at the same time, one finds the answers.
        answers = pairs.pop(number or "", None)
        if answers is None:
            return render.error("vote: allowed: one for each pair of answers"), None
        models = (answers[0].model, answers[1].model)
        texts = (answers[0].result.text, answers[1].result.text)
        counted = await asyncio.to_thread(
            desk.records.votes.add, models, texts, answers[0].result.input, _CHOICES[label]
        )
        names = f"Left is {models[0].name}, right is {models[1].name}."
        return render.status(f"{names} {counted}."), None

    with gr.Row():
        choices = [gr.Button(label, size="sm") for label in _CHOICES]
    status = gr.HTML(elem_id="it-vote-status")
    inputs = [first, second, picture, video, text]
    outputs = [left, right, pair, status]
    button.click(show, inputs, outputs, api_visibility="private", concurrency_id=CALLS)
    for choice in choices:
        choice.click(vote, [choice, pair], [status, pair], api_visibility="private")
    return first, second
