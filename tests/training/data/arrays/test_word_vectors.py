"""Files of word vectors, as GloVe, word2vec and fastText write them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.data.arrays.word_vectors import read_word_vectors
from intertitle.training.data.tokenizer import SPECIAL

TOKENS = [*SPECIAL, "dog", "red", "don't", "2"]
LINES = ["the 0.1 0.2 0.3", "dog 1 -2 3e-1", ". . . 7 7 7", "2 4 5 6", "dog 9 9 9", "<pad> 8 8 8"]


@pytest.mark.parametrize("header", ["", "6 3\n"])
@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n"])
def test_tokens_have_the_vectors_of_their_words(header: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_bytes((header + "".join(line + ending for line in LINES)).encode())
    vectors = read_word_vectors(str(file), TOKENS, 3, "tokenizer.vectors")
    assert vectors.rows.tolist() == [TOKENS.index("dog"), TOKENS.index("2")]
    assert np.array_equal(vectors.values, np.array([[1, -2, 0.3], [4, 5, 6]], np.float32))
    assert vectors.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2", r"line 1: a word and 2 numbers, allowed: 3, .* \(model\.embedding_size\)"),
        ("1 300\ndog 1 2 3 4", "line 2: a word and 4 numbers"),
        ("the 1 2 3\ndog 1 2", "line 2: a word and 2 numbers"),
        ("dog 1 2 x", "line 1: could not convert"),
        ("dog 1 2 nan", "line 1: a number that is not finite"),
        ("the 1 2 3", "has 1 words and none of the 4 of the vocabulary"),
        ("", "has 0 words"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_word_vectors(str(file), TOKENS, 3, "tokenizer.vectors")
    assert str(error.value).startswith(f"tokenizer.vectors: {file}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("first", ["", ". . . 1 1 1", "New York 1 1 1"])
def test_the_first_line_may_be_blank_or_of_a_word_with_spaces(first: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(f"{first}\n\ndog 1 2 3\n\n")
    vectors = read_word_vectors(str(file), TOKENS, 3, "tokenizer.vectors")
    assert vectors.values.tolist() == [[1, 2, 3]]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer.vectors: .*none: No such file"):
        read_word_vectors(str(tmp_path / "none"), TOKENS, 3, "tokenizer.vectors")
