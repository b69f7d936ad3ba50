"""The recipes that translate, made small, learn to write a sequence of letters out again."""

from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.evaluation.answers import answer_examples
from intertitle.training.models.build import task_of
from tests.training.conftest import make_loop, open_data_ref

LETTERS = "abcdefgh"


def write_copies(folder: Path, num_pairs: int) -> DataRef:
    """Three to five letters, and the same ones as capitals; an eighth is for validation."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(LETTERS), rng.integers(3, 6))) for _ in range(num_pairs)]
    write_corpus(
        folder,
        [],
        [
            Example(f"pair {n}", "train" if n % 8 else "val", None, text, (text.upper(),))
            for n, text in enumerate(texts)
        ],
    )
    return open_data_ref(folder, None, "nothing")


@pytest.mark.parametrize(
    ("name", "epochs"), [("seq2seq_forward", 8), ("seq2seq_reversed", 8), ("seq2seq_attention", 4)]
)
def test_a_recipe_learns_to_copy(name: str, epochs: int, tmp_path: Path) -> None:
    recipe = load_recipe(
        name,
        [
            "model.embedding_size=32",
            "model.hidden_size=48",
            "model.dropout=0",
            "tokenizer={kind = 'characters'}",
            "source_tokenizer={kind = 'characters'}",
            "optimizer.learning_rate=1e-2",
            "optimizer.average_decay=0",
            "optimizer.label_smoothing=0",
            "training.batch_tokens=256",
            f"training.epochs={epochs}",
            "training.monitor=nats_per_token",
            "search.max_tokens=8",
        ],
    )
    task = task_of(recipe.model)
    data = write_copies(tmp_path / "corpus", 2000)
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task))
    loop = make_loop(data, words, recipe)
    loop.run()
    loop.model.load_state_dict(loop.checkpoint().best)
    val = open_dataset(Data(data), "val", recipe, task, words)
    assert isinstance(val, Dataset)
    answers = answer_examples(loop.model.eval(), val, range(len(val.examples)), recipe.search)
    right = [
        answer.texts == example.targets
        for answer, example in zip(answers, val.examples, strict=True)
    ]
    assert np.mean(right) >= 0.9
