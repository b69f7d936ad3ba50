"""Pretrained word vectors in the text format of GloVe, word2vec and fastText.

A line has a word and its numbers, separated by spaces. The first line of word2vec's and fastText's
files has the number of words and the size of the vectors instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.data.tokenizer import SPECIAL


@dataclass(frozen=True, slots=True)
class WordVectors:
    """The vectors of those tokens of a vocabulary that a file has.

    Attributes:
        rows: ids of the tokens, int64, [N].
        values: vectors of the tokens, float32, [N, E].
        sha256: SHA-256 of the file.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    sha256: str


def read_word_vectors(file: str, tokens: Sequence[str], size: int, setting: str) -> WordVectors:
    """Read the vectors of a vocabulary's tokens. A word has to be spelled like its token.

    Of several vectors of a word the first counts.

    Args:
        file: path or URL of the file.
        tokens: tokens of the vocabulary in order of their ids.
        size: E, expected size of the vectors.
        setting: name of the setting that names the file, for errors.

    Raises:
        UserError: the file can't be read, has vectors of another size or none of the tokens.
    """
    where = f"{setting}: {file}"
    ids = {token.encode(): n for n, token in enumerate(tokens) if n >= len(SPECIAL)}
    vectors: dict[int, list[float]] = {}
    digest, num_words = hashlib.sha256(), 0
    try:
        with as_path(file).open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                digest.update(line)
                if not line.strip() or (number == 1 and _is_header(line)):
                    continue
                num_words += 1
                if num_words == 1:
                    _check_size(where, number, _num_numbers(line, size), size)
                # A word may contain spaces.
                word, *numbers = line.strip().rsplit(b" ", size)
                if len(numbers) != size:
                    _check_size(where, number, len(numbers), size)
                row = ids.get(word)
                if row is not None and row not in vectors:
                    vectors[row] = _parse(numbers, f"{where}: line {number}")
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    if not vectors:
        raise UserError(
            f"{where}: has {num_words:,} words and none of the {len(ids):,} of the vocabulary"
        )
    rows, values = list(vectors), list(vectors.values())
    return WordVectors(np.array(rows), np.array(values, np.float32), digest.hexdigest())


def _is_header(line: bytes) -> bool:
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _num_numbers(line: bytes, size: int) -> int:
    """Count the numbers of a line, whose word may contain spaces if it has the expected size."""
    fields = line.split()
    surplus = fields[1:-size]
    is_of_word = bool(surplus) and not all(map(_is_number, surplus))
    return size if is_of_word else len(fields) - 1


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_size(where: str, line: int, num_numbers: int, size: int) -> None:
    if num_numbers != size:
        raise UserError(
            f"{where}: line {line}: a word and {num_numbers} numbers, allowed: {size}, the size of "
            "the embedding (model.embedding_size)"
        )


def _parse(numbers: Sequence[bytes], where: str) -> list[float]:
    try:
        values = [float(number) for number in numbers]
    except ValueError as error:
        raise UserError(f"{where}: {one_line(str(error))}") from error
    if not np.isfinite(values).all():
        raise UserError(f"{where}: a number that is not finite")
    return values
