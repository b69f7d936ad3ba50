"""CIDEr-D of token ids, fast enough to be the reward at every step of self-critical training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

MAX_N = 4
SIGMA = 6.0
_TOKEN_BITS = 32
_NO_SENTENCE = -1

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


class CiderReward:
    """CIDEr-D of sampled sentences against the references of a training set.

    Vedantam et al., "CIDEr", 2015; the reward of Rennie et al., "Self-critical Sequence Training
    for Image Captioning", 2017. Equals pycocoevalcap's `CiderScorer` over the same tokens, with the
    document frequencies of these references and the number of their examples.

    References and hypotheses are token ids of 0 or more, without <bos> and padding. To reward
    sentences that end, as is common, put <eos> at the end of both: here it is a word like any
    other.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Counts the n-grams of one reference or more for each of N examples.

        Raises:
            UserError: there is no example, or one without a reference.
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
        """The scores [B], from 0 to 10, of B hypotheses, each for the example at its place.

        An example may come several times, and a hypothesis may be empty.

        Raises:
            ValueError: their numbers differ.
            IndexError: there is no such example.
        """
        if len(examples) != len(hypotheses):
            raise ValueError(f"{len(examples)} examples for {len(hypotheses)} hypotheses")
        asked = np.asarray(examples, dtype=np.int64)
        if ((asked < 0) | (asked >= len(self._starts) - 1)).any():
            raise IndexError(f"examples: allowed are 0 to {len(self._starts) - 2}")
        sentences = _Sentences.of(hypotheses)
        # A pair is a hypothesis and one of its references.
        refs, pair_hyps = _slices(self._starts, asked)
        similarity = np.zeros(len(refs))
        starts, ids = sentences.empty_ngrams()
        for n, table in enumerate(self._tables, start=1):
            starts, codes = sentences.extend(starts, ids, n)
            ids = table.ids(codes)
            similarity += table.cosines(sentences.owners[starts], ids, refs, pair_hyps)
        delta = sentences.lengths[pair_hyps] - self._lengths[refs]
        similarity *= np.exp(-(delta**2) / (2 * SIGMA**2))
        totals = np.bincount(pair_hyps, similarity, minlength=len(asked))
        return 10 / MAX_N * totals / np.diff(self._starts)[asked]


@dataclass(frozen=True)
class _Sentences:
    """Sentences one after another.

    Attributes:
        tokens, owners: [T + MAX_N] each token and the sentence that it is in, then filling.
        lengths: [S] as the Gaussian penalty takes them: pycocoevalcap counts pairs of words.
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
            np.pad(owners, (0, MAX_N), constant_values=_NO_SENTENCE),
            np.maximum(sizes - 1, 0),
        )

    def empty_ngrams(self) -> tuple[_Ints, _Ints]:
        """Where n-grams of no token start, which is everywhere, and their ids."""
        starts = np.arange(len(self.tokens) - MAX_N)
        return starts, np.zeros_like(starts)

    def extend(self, starts: _Ints, ids: _Ints, n: int) -> tuple[_Ints, _Ints]:
        """From where all (n-1)-grams start and their ids: where all n-grams do, and their codes.

        A code is the id of the first n - 1 tokens and the last token, so equal codes are equal
        n-grams.
        """
        inside = self.owners[starts + n - 1] == self.owners[starts]
        starts, ids = starts[inside], ids[inside]
        return starts, ids << _TOKEN_BITS | self.tokens[starts + n - 1]


@dataclass(frozen=True)
class _Table:
    """The n-grams of one length in R references.

    Attributes:
        codes: [G + 1] of the distinct ones, ascending; an n-gram's id is its place here. The last
            is of none, so that every search ends at a place.
        idf: [G + 1] log of N over the document frequency; the last is for any other n-gram.
        starts: [R + 1] where in `ngrams` and `counts` each reference begins.
        ngrams, counts: [E] the distinct ids in each reference, and how often each is in it.
        norms: [R] of the vectors of counts times idf.
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
        """The ids of n-grams; those that no reference has are numbered from G on."""
        distinct, inverse = np.unique(codes, return_inverse=True)
        ids = np.searchsorted(self.codes, distinct)
        other = self.codes[ids] != distinct
        ids[other] = self._num_known + np.arange(other.sum())
        return ids[inverse]

    def cosines(self, owners: _Ints, ids: _Ints, refs: _Ints, pair_hyps: _Ints) -> _Floats:
        """The clipped cosine [P] of each pair, from where each n-gram of the hypotheses is."""
        num_ids = self._num_known + len(ids)
        owners, ids, counts = _count(owners, ids, num_ids)
        hyp_idf = self.idf[np.minimum(ids, self._num_known)]
        squares = np.bincount(
            owners, (counts * hyp_idf) ** 2, minlength=pair_hyps.max(initial=0) + 1
        )
        norms = np.sqrt(squares)[pair_hyps] * self.norms[refs]
        entries, pairs = _slices(self.starts, refs)
        keys, wanted = owners * num_ids + ids, pair_hyps[pairs] * num_ids + self.ngrams[entries]
        places = np.searchsorted(keys, wanted)
        common = np.flatnonzero(np.append(keys, -1)[places] == wanted)  # few, and the rest adds 0
        entries, pairs, places = entries[common], pairs[common], places[common]
        ref_counts, ref_idf = self.counts[entries], self.idf[self.ngrams[entries]]
        products = np.minimum(counts[places], ref_counts) * ref_counts * ref_idf**2
        dots = np.bincount(pairs, products, minlength=len(refs))
        return np.divide(dots, norms, out=np.zeros(len(refs)), where=norms > 0)

    @property
    def _num_known(self) -> int:
        return len(self.codes) - 1


def _count(owners: _Ints, ids: _Ints, num_ids: int) -> tuple[_Ints, _Ints, _Ints]:
    """The distinct pairs of an owner and an id, ascending, and how often each occurs."""
    keys, counts = np.unique(owners * num_ids + ids, return_counts=True)
    owners, ids = np.divmod(keys, max(num_ids, 1))
    return owners, ids, counts


def _slices(starts: _Ints, chosen: _Ints) -> tuple[_Ints, _Ints]:
    """The indices of several slices `starts[i]:starts[i + 1]`, and which of `chosen` each is of."""
    sizes = starts[chosen + 1] - starts[chosen]
    ends = sizes.cumsum()
    indices = np.repeat(starts[chosen] - ends + sizes, sizes) + np.arange(sizes.sum())
    return indices, np.repeat(np.arange(len(chosen)), sizes)
