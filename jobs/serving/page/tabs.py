"""Tabs of the page that call one model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.page import card, render
from intertitle.jobs.serving.page.calls import CallButtons
from intertitle.jobs.serving.page.desk import CALLS, Desk, message, with_options
from intertitle.jobs.serving.page.inputs import media_inputs
from intertitle.jobs.serving.page.judgement import Judgement
from intertitle.jobs.serving.schemas import TokenProbability

_NBEST = 5


def caption_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab that captions or classifies pictures and videos."""
    has_challenger = any(route.canary for route in desk.routes.values())
    with gr.Row():
        with gr.Column():
            picture, video = media_inputs("it-caption", desk.examples)
            prefix = gr.Textbox(label="First words of the caption (optional)")
            button = gr.Button("Caption", variant="primary", elem_id="it-caption")
        with gr.Column():
            output = gr.HTML(elem_id="it-caption-text")
            listed = gr.HTML(elem_id="it-caption-nbest")
            challenger = gr.HTML(visible=has_challenger, elem_id="it-caption-challenger")
            calls = CallButtons(desk)
            judgement = Judgement(desk)

    async def run(
        name: str | None, image: str | None, film: str | None, begin: str
    ) -> AsyncIterator[Any]:
        file = film or image
        try:
            details = await desk.details(name)
            is_sentence = details.output == "sentence"
            nbest = 1 if details.output == "label_per_frame" else _NBEST
            options: dict[str, Any] = {"prefix": begin} if begin.strip() else {}
            query = await desk.query(file, None, nbest=nbest, **options)
            call = calls.of(details.name, query)
            if is_sentence:
                # Beam search knows no word before the last one: its result replaces these words.
                async for event in desk.stream(details.name, with_options(query, nbest=1)):
                    yield render.words(event.get("text", "")), "", "", *call, None
            query = with_options(query, attention=details.attention, frames=True)
            answered = await desk.answer(details.name, query, file)
        except ApiError as error:
            yield render.error(message(error)), "", "", "", "", None
            return
        assert answered is not None
        candidates = render.bars(answered.result.nbest, not is_sentence) if nbest > 1 else ""
        best = (render.caption(answered.result), candidates)
        yield *best, "", *call, answered.brief()
        if second := await _challenger(desk, details.name, query, file):
            yield *best, f"<h3>Challenger</h3>{second}", *call, answered.brief()

    outputs = [output, listed, challenger, *calls.texts, judgement.answered]
    inputs = [model, picture, video, prefix]
    gr.on(
        [button.click, prefix.submit],
        run,
        inputs,
        outputs,
        api_visibility="private",
        concurrency_id=CALLS,
    )


async def _challenger(desk: Desk, name: str, query: Query, file: str | None) -> str:
    """Return the challenger's caption, or the line of its error; "" if there is none."""
    try:
        details = await desk.challenger(name)
        if details is None:
            return ""
        is_sentence = details.output != "label_per_frame"
        query = with_options(
            query, attention=details.attention, nbest=query.options.nbest if is_sentence else 1
        )
        answered = await desk.answer(name, query, file, challenger=True)
    except ApiError as error:
        return render.error(message(error))
    return render.caption(answered.result) if answered else ""


def answer_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab that answers questions about a picture, which stays for the next one."""
    with gr.Row():
        with gr.Column():
            picture, video = media_inputs("it-ask", desk.examples)
            question = gr.Textbox(label="Question", elem_id="it-ask-question")
            switch = gr.Radio(label="What the model uses", visible=False, elem_id="it-ask-uses")
            button = gr.Button("Ask", variant="primary", elem_id="it-ask")
        with gr.Column():
            output = gr.HTML(elem_id="it-ask-answers")
            calls = CallButtons(desk)
            judgement = Judgement(desk)

    async def offer(name: str | None) -> Any:
        variants = await desk.variants(name)
        chosen = name if variants else None
        return gr.update(choices=list(variants.items()), value=chosen, visible=bool(variants))

    async def run(
        name: str | None, variant: str | None, image: str | None, film: str | None, text: str
    ) -> Sequence[Any]:
        file = film or image
        try:
            variants = await desk.variants(name) if variant else {}
            details = await desk.details(variant if variant in variants.values() else name)
            query = await desk.query(file, text, nbest=_NBEST)
            answered = await desk.answer(details.name, query, file)
        except ApiError as error:
            return render.error(message(error)), "", "", None
        assert answered is not None
        result = answered.result
        bars = render.bars(result.nbest, details.output == "label")
        answer = render.words(result.text) + bars + render.notes(result)
        return answer, *calls.of(details.name, query), answered.brief()

    model.change(offer, model, switch, api_visibility="private")
    inputs = [model, switch, picture, video, question]
    outputs = [output, *calls.texts, judgement.answered]
    gr.on(
        [button.click, question.submit],
        run,
        inputs,
        outputs,
        api_visibility="private",
        concurrency_id=CALLS,
    )


def translate_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab that translates or classifies texts."""
    with gr.Row():
        with gr.Column():
            source = gr.Textbox(label="Text", lines=4, elem_id="it-translate-source")
            button = gr.Button("Translate", variant="primary", elem_id="it-translate")
        with gr.Column():
            output = gr.HTML(elem_id="it-translate-text")
            listed = gr.HTML(elem_id="it-translate-nbest")
            calls = CallButtons(desk)
            judgement = Judgement(desk)

    async def run(name: str | None, text: str) -> Sequence[Any]:
        try:
            details = await desk.details(name)
            query = await desk.query(None, text, nbest=_NBEST)
            query_with_map = with_options(query, attention=details.attention)
            answered = await desk.answer(details.name, query_with_map)
        except ApiError as error:
            return render.error(message(error)), "", "", "", None
        assert answered is not None
        bars = render.bars(answered.result.nbest, details.output == "label")
        return (
            render.aligned(answered.result),
            bars,
            *calls.of(details.name, query),
            answered.brief(),
        )

    outputs = [output, listed, *calls.texts, judgement.answered]
    button.click(run, [model, source], outputs, api_visibility="private", concurrency_id=CALLS)


def write_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab that continues a text; surprising tokens are coloured."""
    prefix = gr.Textbox(label="First words", lines=2, elem_id="it-write-prefix")
    with gr.Row():
        temperature = gr.Slider(0.1, 2.0, 1.0, step=0.05, label="Temperature")
        top_p = gr.Slider(0.05, 1.0, 1.0, step=0.05, label="Top-p")
        length = gr.Slider(10, 400, 120, step=10, label="Tokens")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    button = gr.Button("Write", variant="primary", elem_id="it-write")
    output = gr.HTML(elem_id="it-write-text")
    calls = CallButtons(desk)

    async def run(
        name: str | None, begin: str, warmth: float, share: float, num: float, start: float | None
    ) -> AsyncIterator[Any]:
        options: dict[str, Any] = {"prefix": begin} if begin else {}
        tokens: list[TokenProbability] = []
        text = separator = ""
        try:
            query = await desk.query(
                None,
                None,
                temperature=warmth,
                top_p=share,
                num_tokens=int(num),
                seed=int(start or 0),
                num_texts=1,
                **options,
            )
            details = await desk.details(name)
            call = calls.of(details.name, query)
            async for event in desk.stream(details.name, query):
                if "result" in event:
                    break
                tokens.append(TokenProbability(**{k: event[k] for k in ("token", "probability")}))
                # Words are joined by spaces, characters are not.
                if len(tokens) == 2:
                    separator = " " if event["text"].startswith(f"{text} ") else ""
                text = event["text"]
                yield render.surprisal(tokens, separator), *call
        except ApiError as error:
            yield render.error(message(error)), "", ""

    # A slider that is moved starts the text over.
    gr.on(
        [button.click, temperature.release, top_p.release],
        run,
        [model, prefix, temperature, top_p, length, seed],
        [output, *calls.texts],
        trigger_mode="always_last",
        api_visibility="private",
        concurrency_id=CALLS,
    )


def card_tab(desk: Desk, model: gr.Dropdown) -> None:
    """Build the tab that describes a model."""
    output = gr.HTML(elem_id="it-card")

    async def run(name: str | None) -> str:
        try:
            return card.card(await desk.details(name))
        except ApiError as error:
            return render.error(message(error))

    model.change(run, model, output, api_visibility="private")
