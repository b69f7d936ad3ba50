"""Sequences of different lengths in one flat array, and examples in one table.

A Python list of a million sentences takes hundreds of bytes for each, and padding a batch of them
takes a loop over its rows; here a batch is a gather.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Example
from intertitle.training.data.tokenizer import PAD_ID, Tokenizer

Ints = NDArray[np.int64]
# Number of texts that are encoded, or examples that are read, at once.
CHUNK = 10_000

_SETTINGS = {
    "tokenizer": "tokenizer.max_tokens allows more",
    "source_tokenizer": (
        "source_tokenizer.max_tokens, or --max-source-tokens of evaluate and predict, allows more"
    ),
}


class Ragged:
    """Token sequences, concatenated.

    Args:
        tokens: tokens of all sequences, in order.
        lengths: number of tokens of each sequence, int64, [N].

    Attributes:
        lengths: number of tokens of each sequence, int32, [N].
    """

    def __init__(self, tokens: NDArray[np.int32], lengths: Ints) -> None:
        self.lengths = lengths.astype(np.int32)
        self._starts = lengths.cumsum() - lengths
        # A gather of rectangles reads beyond the end of the last sequence.
        self._tokens = np.pad(tokens, (0, int(lengths.max(initial=0)) + 1))
        self._columns = np.arange(int(lengths.max(initial=0)) + 1)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> list[int]:
        start = self._starts[index]
        tokens: list[int] = self._tokens[start : start + self.lengths[index]].tolist()
        return tokens

    def __iter__(self) -> Iterator[list[int]]:
        return (self[index] for index in range(len(self)))

    def where(self, chosen: NDArray[np.bool_]) -> Ragged:
        """Return the chosen sequences; the mask is [N]."""
        tokens = self._tokens[: int(self.lengths.sum())]
        lengths = self.lengths[chosen].astype(np.int64)
        return Ragged(tokens[np.repeat(chosen, self.lengths)], lengths)

    def contains(self, token: int) -> NDArray[np.bool_]:
        """Return whether each sequence contains a token, [N]."""
        owners = np.repeat(np.arange(len(self)), self.lengths)
        counts = np.bincount(owners[self._tokens[: len(owners)] == token], minlength=len(self))
        return counts > 0

    def grid(self, rows: Ints, width: int) -> NDArray[np.int32]:
        """Return what follows the start of each row, [B, width]; it may reach into the next row."""
        grid: NDArray[np.int32] = self._tokens[self._starts[rows][:, None] + self._columns[:width]]
        return grid

    def mask(self, lengths: Ints) -> NDArray[np.bool_]:
        """Return the mask of the valid places of rows with the given lengths, [B, L]."""
        return self._columns[: lengths.max(initial=0)] < lengths[:, None]

    def padded(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return sequences padded to the longest, [B, L], and their lengths, [B]."""
        lengths = self.lengths[rows].astype(np.int64)
        mask = self.mask(lengths)
        return np.where(mask, self.grid(rows, mask.shape[1]), np.int64(PAD_ID)), lengths


def encode(tokenizer: Tokenizer, texts: Iterable[str], limit: int) -> tuple[Ragged, Ints]:
    """Encode texts, truncated to a number of tokens.

    Args:
        tokenizer: tokenizer of the texts.
        texts: texts to encode.
        limit: maximum number of tokens of a text.

    Returns:
        The tokens, and the number of tokens of each text before the truncation, [N].

    Raises:
        UserError: a text can't be represented in UTF-8.
    """
    tokens, full_lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    texts = iter(texts)
    while part := list(islice(texts, CHUNK)):
        encoded = tokenizer.encode_all(part)
        full_lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        cut = chain.from_iterable(ids[:limit] for ids in encoded)
        tokens.append(np.fromiter(cut, np.int32))
    lengths = np.concatenate(full_lengths)
    return Ragged(np.concatenate(tokens), lengths.clip(max=limit)), lengths


def describe_cut(
    lengths: Sequence[int] | NDArray[np.int64],
    limit: int,
    text_kind: str,
    section: Literal["tokenizer", "source_tokenizer"],
) -> tuple[str, ...]:
    """Describe how many texts are truncated to a number of tokens.

    Args:
        lengths: number of tokens of each text before truncation.
        limit: maximum number of tokens.
        text_kind: name of the texts in the warning.
        section: section of the recipe with the limit.

    Returns:
        One warning, or none if no text is truncated.
    """
    num = int(np.count_nonzero(np.asarray(lengths) > limit))
    if not num:
        return ()
    longest = int(max(lengths))
    return (
        f"{num:,} of {len(lengths):,} {text_kind} are longer than {limit:,} tokens and were cut, "
        f"the longest has {longest:,}: {_SETTINGS[section]}",
    )


class Examples(Sequence[Example]):
    """The examples of a table, which are created when they are accessed.

    Args:
        table: table of one split with the columns of `EXAMPLE_SCHEMA`.
    """

    def __init__(self, table: pa.Table) -> None:
        # The name of the split is the same in all rows.
        split = table["split"].combine_chunks().dictionary_encode()
        self._table = table.set_column(table.column_names.index("split"), "split", split)

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Example]:
        for batch in self._table.to_batches(max_chunksize=CHUNK):
            yield from map(_example, batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[n] for n in range(len(self))[index])
        number = range(len(self))[index]
        return _example(self._table.slice(number, 1).to_pylist()[0])

    def where(self, chosen: NDArray[np.bool_]) -> Examples:
        """Return the chosen examples; the mask is [N]."""
        return Examples(self._table.filter(pa.array(chosen)).combine_chunks())


def _example(row: dict[str, object]) -> Example:
    return Example(**{**row, "targets": tuple(row["targets"])})  # type: ignore[arg-type]
