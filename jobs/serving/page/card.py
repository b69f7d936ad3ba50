"""HTML of tables: the card of a model, and the answers to many inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from intertitle.jobs.serving.page import render
from intertitle.jobs.serving.schemas import EvaluatedExample, ModelDetails, Result

# What is said about a model whose run says nothing.
_LIMITS = "not stated; an answer to an input unlike those of its corpus is a guess"


def card(details: ModelDetails) -> str:
    """Return what is known about a model."""
    facts = (
        ("Task", details.task),
        ("Run", details.run),
        ("Version", details.version or "not registered"),
        ("Recipe", details.recipe),
        ("Trained on", f"corpus {details.corpus}, {details.step:,} steps"),
        ("Data", _data(details)),
        ("Parameters", f"{details.parameters:,}"),
        ("Vocabulary", f"{details.vocabulary:,} tokens"),
        ("Limits", details.limits or _LIMITS),
        ("Licence", details.license or "not stated"),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    parts = [f'<dl class="it-card">{listed}</dl>', _scores(details)]
    for title, examples in (("Best examples", details.best), ("Worst examples", details.worst)):
        if examples:
            parts.append(_examples(title, examples))
    return "".join(parts)


def batch(results: Sequence[Result]) -> str:
    """Return a table of inputs and answers, with the first frame of each file."""
    rows = [
        (
            _image(result.frames[0]) if result.frames else "",
            escape(result.input),
            f'<span class="it-error">{escape(result.error.allowed)}</span>'
            if result.error
            else escape(result.text) + render.notes(result),
        )
        for result in results
    ]
    return _table("Answers", ("preview", "input", "answer"), rows)


def _data(details: ModelDetails) -> str:
    """Describe the corpus and the features of a training."""
    numbers = [f"{num:,} {name.replace('_', ' ')}" for name, num in details.data.items() if num]
    features = [f"features of {item}" for item in details.features]
    return "; ".join([", ".join(numbers) or "numbers not recorded", *features])


def _scores(details: ModelDetails) -> str:
    if not details.scores:
        return "<p>It has not been evaluated.</p>"
    rows = [
        (escape(score.metric), f"{score.value:.2f}", f"{score.low:.2f} to {score.high:.2f}")
        for score in details.scores
    ]
    title = f"Scores on the split {details.scores[0].split}"
    return _table(title, ("metric", "score", "95 % interval"), rows)


def _examples(title: str, examples: Sequence[EvaluatedExample]) -> str:
    rows = [
        tuple(map(escape, (item.input, item.output, item.reference, f"{item.score:.2f}")))
        for item in examples
    ]
    heading = f"{title}, by {examples[0].metric}"
    return _table(heading, ("input", "the model says", "a reference", "score"), rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls by itself on a narrow screen; its cells are HTML."""
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="it-scroll"><table class="it-table"><caption>{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _image(frame: str) -> str:
    return f'<img alt="" class="it-thumb" src="data:image/jpeg;base64,{frame}">'
