"""The recipes that answer with labels, made small, learn what they should, and only that."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.models.build import task_of
from tests.training.conftest import (
    COLOURS,
    DIM,
    SHAPES,
    Shown,
    features_of,
    make_loop,
    open_data_ref,
    write_data,
)


def train(data: DataRef, name: str, *settings: str) -> float:
    """The best accuracy on val, in percent, of a recipe learned from some data."""
    recipe = load_recipe(
        name,
        [
            "model.embedding_size=32",
            "model.hidden_size=32",
            "model.dropout=0.1",
            "optimizer.learning_rate=1e-2",
            "optimizer.average_decay=0",
            "training.batch_tokens=256",
            *settings,
        ],
    )
    assert recipe.training.monitor == "accuracy"
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task_of(recipe.model)))
    loop = make_loop(data, words, recipe)
    loop.run()
    assert loop.progress.best_value is not None
    return loop.progress.best_value


def opinions(num_sentences: int) -> list[Example]:
    """Sentences about films, good or bad; "not" before the adjective turns it round."""
    rng = np.random.default_rng(0)
    liked = {"good": True, "clever": True, "moving": True, "dull": False, "bad": False}
    examples = []
    for n in range(num_sentences):
        word = str(rng.choice(list(liked)))
        negated = bool(rng.integers(2))
        before = "this film is" if n % 3 else "for all its long hours and its cast , the film is"
        label = "pos" if liked[word] != negated else "neg"
        text = f"{before} {'not ' if negated else ''}{word} ."
        examples.append(Example(f"{n}", "val" if n % 5 == 0 else "train", None, text, (label,)))
    return examples


def test_sentiment_hangs_on_more_than_one_word(tmp_path: Path) -> None:
    write_corpus(tmp_path, [], opinions(500))
    data = open_data_ref(tmp_path, None, "nothing")
    assert train(data, "sentiment", "training.epochs=10", "training.batch_tokens=128") >= 97


def films_that_rise_or_fall(num_films: int) -> list[Shown]:
    """Films that rise, fall or stay from each frame to the next; the label says which."""
    rng = np.random.default_rng(0)
    way = rng.normal(size=DIM)
    steps = {"rises": 1, "falls": -1, "stays": 0}
    shown = []
    for n in range(num_films):
        labels = [str(label) for label in rng.choice(list(steps), rng.integers(3, 9))]
        heights = np.cumsum([rng.normal(), *(steps[label] for label in labels)])
        noise = rng.normal(scale=0.05, size=(len(heights), DIM))
        frames = (heights[:, None] * way + noise).astype(np.float32)
        # Nothing comes after the last frame, which has the label of the one before it.
        targets = (*labels, labels[-1])
        shown.append(Shown(f"film {n}", "train" if n % 5 else "val", frames, targets))
    return shown


@pytest.mark.parametrize(("bidirectional", "least", "most"), [(True, 95, 100), (False, 30, 60)])
def test_a_tagger_that_reads_both_ways_knows_what_a_frame_leads_to(
    bidirectional: bool, least: float, most: float, tmp_path: Path
) -> None:
    data = write_data(tmp_path, films_that_rise_or_fall(400))
    settings = ["training.epochs=10", "training.batch_tokens=64"]
    settings.append(f"model.bidirectional={str(bidirectional).lower()}")
    assert least <= train(data, "frame_tagger", *settings) <= most


def questions_about_things(folder: Path, num_items: int) -> DataRef:
    """Pictures of a coloured thing, four questions each; "yes" is right for one, "no" for one."""
    rng = np.random.default_rng(0)
    looks = {word: rng.normal(size=DIM) for word in (*COLOURS, *SHAPES)}
    things, examples = list(product(COLOURS, SHAPES)), []
    shown = []
    for n in range(num_items):
        colour, shape = things[n % len(things)]
        noise = rng.normal(scale=0.2, size=(1, DIM))
        features = (looks[colour] + looks[shape] + noise).astype(np.float32)
        split = "train" if n % 5 else "val"
        shown.append(Shown(f"item {n}", split, features, (colour,)))
        other = str(rng.choice([c for c in COLOURS if c != colour]))
        for question, answer in (
            ("what colour is it?", colour),
            ("what shape is the thing?", shape),
            (f"is it {colour}?", "yes"),
            (f"is it {other}?", "no"),
        ):
            key = f"item {n}"
            examples.append(Example(f"{key} {question}", split, key, question, (answer,)))
    features_path = features_of(write_data(folder, shown)).path
    items = [Item(one.key, f"{one.key}.mp4", "video") for one in shown]
    write_corpus(folder / "corpus", items, examples)
    return open_data_ref(folder / "corpus", Path(features_path), "pooled")


@pytest.mark.parametrize(
    ("uses", "least", "most"), [("both", 97, 100), ("question", 30, 45), ("image", 20, 32)]
)
def test_only_question_and_image_together_answer(
    uses: str, least: float, most: float, tmp_path: Path
) -> None:
    # The question alone guesses one of four colours and shapes, and yes or no: 37.5 %. The image
    # alone must say the same to all four questions: 25 %.
    data = questions_about_things(tmp_path, 300)
    settings = ["model.fused_size=64", "training.epochs=10", f"model.uses={uses}"]
    assert least <= train(data, "vqa_lstm", *settings) <= most


def questions_about_cells(folder: Path, num_items: int) -> DataRef:
    """Pictures of three things, each in a cell; a question asks for the colour of one."""
    rng = np.random.default_rng(0)
    looks = {word: rng.normal(size=DIM) for word in (*COLOURS, *SHAPES)}
    shown, examples = [], []
    for n in range(num_items):
        shapes, colours = rng.choice(SHAPES, 3, replace=False), rng.choice(COLOURS, 3)
        cells = np.stack([looks[c] + looks[s] for c, s in zip(colours, shapes, strict=True)])
        key, split = f"item {n}", "train" if n % 5 else "val"
        shown.append(Shown(key, split, cells[None].astype(np.float32), (str(colours[0]),)))
        for colour, shape in zip(colours, shapes, strict=True):
            question = f"what colour is the {shape}?"
            examples.append(Example(f"{key} {shape}", split, key, question, (str(colour),)))
    features_path = features_of(write_data(folder, shown)).path
    items = [Item(one.key, f"{one.key}.mp4", "video") for one in shown]
    write_corpus(folder / "corpus", items, examples)
    return open_data_ref(folder / "corpus", Path(features_path), "grid")


@pytest.mark.parametrize("num_hops", [1, 2])
def test_attention_finds_the_cell_that_a_question_names(num_hops: int, tmp_path: Path) -> None:
    data = questions_about_cells(tmp_path, 500)
    settings = ["model.fused_size=64", "model.attention_size=32", f"model.num_hops={num_hops}"]
    assert train(data, "vqa_attention", *settings, "training.epochs=15") >= 95
