"""CIDEr-D over token ids, fast enough to be the reward in each step of self-critical training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError

MAX_N = 4
SIGMA = 6.0
_TOKEN_BITS = 32

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


class CiderReward:
    """CIDEr-D scores of sampled sentences against the references of a training set.

    Vedantam et al., "CIDEr", 2015; the reward of Rennie et al., "Self-critical Sequence Training
    for Image Captioning", 2017. Equals pycocoevalcap's `CiderScorer` over the same tokens, with the
    document frequencies of these references and their number of examples.

    References and hypotheses are token ids of 0 or more, without <bos> and padding. To reward
    sentences that end, as is common, append <eos> to both: it is treated like any other token.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Count the n-grams of the references.

        Args:
            references: token ids of at least one reference for each of N examples.

        Raises:
            UserError: there is no example, or an example has no reference.
        """
        if not references:
            raise UserError("references: 0 examples; at least 1 is needed")
        sizes = np.array([len(group) for group in references])
        if not sizes.all():
            index = int(np.argmin(sizes))
            raise UserError(f"references: example {index} has none; at least 1 is needed")
        self._starts = np.append(0, sizes.cumsum())
        sentences = _Sentences.of(list(chain.from_iterable(references)))
        self._lengths = sentences.lengths
        examples = np.repeat(np.arange(len(references)), sizes)
        self._tables: list[_Table] = []
        starts, ids = sentences.empty_ngrams()
        for n in range(1, MAX_N + 1):
            starts, codes = sentences.extend(starts, ids, n)
            known, ids = np.unique(codes, return_inverse=True)
            owners, ngrams, counts = _count(sentences.owners[starts], ids, len(known))
            self._tables.append(_Table.of(known, owners, ngrams, counts, examples))

    def score(self, examples: Sequence[int], hypotheses: Sequence[Sequence[int]]) -> _Floats:
        """Score B hypotheses.

        Args:
            examples: index of the example of each hypothesis, [B]; an index may occur several
                times.
            hypotheses: token ids of each hypothesis; may be empty.

        Returns:
            The scores, from 0 to 10, [B].

        Raises:
            ValueError: the numbers of examples and hypotheses differ.
            IndexError: an index is out of range.
        """
        if len(examples) != len(hypotheses):
            raise ValueError(f"{len(examples)} examples for {len(hypotheses)} hypotheses")
        indices = np.asarray(examples, dtype=np.int64)
        if ((indices < 0) | (indices >= len(self._starts) - 1)).any():
            raise IndexError(f"examples: allowed are 0 to {len(self._starts) - 2}")
        sentences = _Sentences.of(hypotheses)
        # A pair is a hypothesis and one of its references.
        refs, pair_hyps = _slices(self._starts, indices)
        similarity = np.zeros(len(refs))
        starts, ids = sentences.empty_ngrams()
        for n, table in enumerate(self._tables, start=1):
            starts, codes = sentences.extend(starts, ids, n)
            ids = table.ids(codes)
            similarity += table.cosines(sentences.owners[starts], ids, refs, pair_hyps)
        delta = sentences.lengths[pair_hyps] - self._lengths[refs]
        similarity *= np.exp(-(delta**2) / (2 * SIGMA**2))
        totals = np.bincount(pair_hyps, similarity, minlength=len(indices))
        return 10 / MAX_N * totals / np.diff(self._starts)[indices]


@dataclass(frozen=True)
class _Sentences:
    """Concatenated sentences.

    Attributes:
        tokens, owners: each token and the index of its sentence, then padding, whose index is S,
            [T + MAX_N].
        lengths: length of each sentence for the Gaussian penalty, [S]: pycocoevalcap counts pairs
            of words.
    """

    tokens: _Ints
    owners: _Ints
    lengths: _Ints

    @classmethod
    def of(cls, sentences: Sequence[Sequence[int]]) -> "_Sentences":
        sizes = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        tokens = np.fromiter(chain.from_iterable(sentences), np.int64, count=sizes.sum())
        owners = np.repeat(np.arange(len(sizes)), sizes)
        return cls(
            np.pad(tokens, (0, MAX_N)),
            np.pad(owners, (0, MAX_N), constant_values=len(sizes)),
            np.maximum(sizes - 1, 0),
        )

    def empty_ngrams(self) -> tuple[_Ints, _Ints]:
        """Return the starts of the n-grams of length 0, which are all positions, and their ids."""
        starts = np.arange(len(self.tokens) - MAX_N)
        return starts, np.zeros_like(starts)

    def extend(self, starts: _Ints, ids: _Ints, n: int) -> tuple[_Ints, _Ints]:
        """Extend all (n-1)-grams by one token.

        Args:
            starts: starts of the (n-1)-grams.
            ids: ids of the (n-1)-grams.
            n: length of the extended n-grams.

        Returns:
            The starts of all n-grams, and their codes. A code combines the id of the first n - 1
            tokens and the last token, so that equal codes mean equal n-grams.
        """
        inside = self.owners[starts + n - 1] == self.owners[starts]
        starts, ids = starts[inside], ids[inside]
        return starts, ids << _TOKEN_BITS | self.tokens[starts + n - 1]


@dataclass(frozen=True)
class _Table:
    """The n-grams of one length in R references.

    Attributes:
        codes: codes of the distinct n-grams, ascending, [G + 1]; the id of an n-gram is its index
            here. The last entry is no n-gram, so that every search ends at a valid index.
        idf: log of N over the document frequency, [G + 1]; the last entry is for unknown n-grams.
        starts: start of each reference in `ngrams` and `counts`, [R + 1].
        ngrams, counts: distinct ids of each reference, and the number of their occurrences, [E].
        norms: norms of the vectors of counts times idf, [R].
    """

    codes: _Ints
    idf: _Floats
    starts: _Ints
    ngrams: NDArray[np.int32]
    counts: NDArray[np.int32]
    norms: _Floats

    @classmethod
    def of(
        cls, codes: _Ints, owners: _Ints, ngrams: _Ints, counts: _Ints, examples: _Ints
    ) -> "_Table":
        _, documents, _ = _count(examples[owners], ngrams, len(codes))
        frequencies = np.bincount(documents, minlength=len(codes) + 1)
        idf = np.log(float(examples[-1] + 1)) - np.log(np.maximum(1.0, frequencies))
        squares = np.bincount(owners, (counts * idf[ngrams]) ** 2, minlength=len(examples))
        return cls(
            np.append(codes, np.iinfo(np.int64).max),
            idf,
            np.searchsorted(owners, np.arange(len(examples) + 1)),
            ngrams.astype(np.int32),
            counts.astype(np.int32),
            np.sqrt(squares),
        )

    def ids(self, codes: _Ints) -> _Ints:
        """Return the ids of n-grams; n-grams that no reference contains are numbered from G on."""
        distinct, inverse = np.unique(codes, return_inverse=True)
        ids = np.searchsorted(self.codes, distinct)
        is_unknown = self.codes[ids] != distinct
        ids[is_unknown] = self._num_known + np.arange(is_unknown.sum())
        return ids[inverse]

    def cosines(self, owners: _Ints, ids: _Ints, refs: _Ints, pair_hyps: _Ints) -> _Floats:
        """Compute the clipped cosine similarity of each pair of a hypothesis and a reference.

        Args:
            owners: index of the hypothesis of each n-gram.
            ids: id of each n-gram of the hypotheses.
            refs: reference of each pair, [P].
            pair_hyps: hypothesis of each pair, [P].

        Returns:
            The similarities, [P].
        """
        num_ids = self._num_known + len(ids)
        owners, ids, counts = _count(owners, ids, num_ids)
        hyp_idf = self.idf[np.minimum(ids, self._num_known)]
        squares = np.bincount(
            owners, (counts * hyp_idf) ** 2, minlength=pair_hyps.max(initial=0) + 1
        )
        norms = np.sqrt(squares)[pair_hyps] * self.norms[refs]
        entries, pairs = _slices(self.starts, refs)
        keys, ref_keys = owners * num_ids + ids, pair_hyps[pairs] * num_ids + self.ngrams[entries]
        places = np.searchsorted(keys, ref_keys)
        # Only n-grams that both sentences contain contribute, and they are few.
        common = np.flatnonzero(np.append(keys, -1)[places] == ref_keys)
        entries, pairs, places = entries[common], pairs[common], places[common]
        ref_counts, ref_idf = self.counts[entries], self.idf[self.ngrams[entries]]
        products = np.minimum(counts[places], ref_counts) * ref_counts * ref_idf**2
        dots = np.bincount(pairs, products, minlength=len(refs))
        return np.divide(dots, norms, out=np.zeros(len(refs)), where=norms > 0)

    @property
    def _num_known(self) -> int:
        return len(self.codes) - 1


def _count(owners: _Ints, ids: _Ints, num_ids: int) -> tuple[_Ints, _Ints, _Ints]:
    """Return the distinct pairs of an owner and an id, ascending, and the count of each pair."""
    keys, counts = np.unique(owners * num_ids + ids, return_counts=True)
    owners, ids = np.divmod(keys, num_ids)
    return owners, ids, counts


def _slices(starts: _Ints, chosen: _Ints) -> tuple[_Ints, _Ints]:
    """Concatenate the slices `starts[i]:starts[i + 1]` of the chosen `i`.

    Returns:
        The indices of all slices, and for each index the position of its slice in `chosen`.
    """
    sizes = starts[chosen + 1] - starts[chosen]
    ends = sizes.cumsum()
    indices = np.repeat(starts[chosen] - ends + sizes, sizes) + np.arange(sizes.sum())
    return indices, np.repeat(np.arange(len(chosen)), sizes)
