"""What a training begins with: word vectors in the embeddings of either vocabulary."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe, change_recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.runs.initial_weights import initial_weights
from tests.training.conftest import small_recipe

TEXT = DataRef("corpus", "0")
WORDS = Vocabs(
    Tokenizer.words(["ein Hund rennt"], min_count=1, lowercase=True),
    Tokenizer.words(["a dog runs"], min_count=1, lowercase=True),
)


def with_settings(recipe: str, *settings: str) -> Recipe:
    return change_recipe(small_recipe(recipe), ["model.embedding_size=4", *settings], "--set")


@pytest.mark.parametrize(
    ("section", "parameter", "line", "token"),
    [
        ("tokenizer", "words.embedding.weight", "hund 1 2 3 4", "hund"),
        ("source_tokenizer", "source.weight", "dog 1 2 3 4", "dog"),
    ],
)
def test_vectors_replace_rows_of_one_embedding(
    section: str, parameter: str, line: str, token: str, tmp_path: Path
) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(f"other 5 6 7 8\n{line}\n")
    recipe = with_settings("seq2seq_forward", f"{section}.vectors={file}")
    initial = initial_weights(recipe, WORDS, TEXT, None)
    assert initial.params == {
        f"{section}.vectors_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        f"{section}.vectors_found": 1,
    }
    ((name, tensor),) = initial.tensors.items()
    assert name == parameter
    # The other rows are those that the workers draw.
    torch.manual_seed(recipe.training.seed)
    drawn = build_model(recipe.model, sizes_of(WORDS, TEXT)).get_parameter(name).detach()
    vocabulary = WORDS.target if section == "tokenizer" else WORDS.source
    assert vocabulary is not None
    row = vocabulary.tokens().index(token)
    assert tensor[row].tolist() == [1, 2, 3, 4]
    rest = [n for n in range(len(tensor)) if n != row]
    assert torch.equal(tensor[rest], drawn[rest])


def test_without_vectors_a_training_begins_at_random() -> None:
    initial = initial_weights(with_settings("seq2seq_forward"), WORDS, TEXT, None)
    assert (initial.tensors, initial.params, initial.transfer) == ({}, {}, None)


def test_what_has_no_embedding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("positive 1 2 3 4\n")
    labels = Vocabs(Tokenizer.labels(["positive"], size=None), WORDS.source)
    recipe = with_settings("sentiment", f"tokenizer.vectors={file}")
    with pytest.raises(UserError, match="of no use to sentiment, which embeds no target tokens"):
        initial_weights(recipe, labels, TEXT, None)
