"""How good systems are that answer with a label: one for a question, or one for each frame."""

import re
from collections import Counter
from collections.abc import Sequence

from pipeline.errors import UserError
from training.evaluation.metrics import Scores, check_number, check_references, weighted

NUM_VQA_ANSWERS = 10
"""How many people answered each question of VQA."""
ENOUGH_VQA_ANSWERS = 4
"""With fewer, VQA's accuracy of the answer that all of them give is below 1."""

# What the official code of VQA does to an answer, with what it does by mistake, because published
# figures have it: vqaEval.py of https://github.com/GT-Vision-Lab/VQA as of a013f00, 2021.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile("[0-9],[0-9]")
_PERIOD = re.compile(r"\.(?![0-9])")
_MAX_PERIODS = 32  # there re.UNICODE, which is 32, stands where `sub` takes a count
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(n) for n, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# Each is put right where one apostrophe is missing. The last is the wrong way round there too.
_APOSTROPHES = {
    word[:at] + word[at + 1 :]: word
    for word in _CONTRACTIONS.split()
    for at, character in enumerate(word)
    if character == "'"
} | {"somebody'd": "somebodyd"}


def vqa_accuracy(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The accuracy, from 0 to 1, of each of B answers against those of N people, ten in VQA.

    Antol et al., "VQA: Visual Question Answering", 2015: the mean, over the N ways to leave one
    person out, of min(1, how many of the others agree / 3). As in the official code, texts are
    normalized only where the N are not all the same, and N may be any number.

    Raises:
        UserError: another number of answers than of examples.
    """
    check_number(answers, references)
    return [
        _accuracy_of_one(answer, group) for answer, group in zip(answers, references, strict=True)
    ]


def _accuracy_of_one(answer: str, references: Sequence[str]) -> float:
    answer, *references = (_on_one_line(text) for text in (answer, *references))
    if len(set(references)) > 1:
        answer, *references = (_normalize(text) for text in (answer, *references))
    num, agree = len(references), references.count(answer)
    # Who is left out agrees, or does not. Of ten: 0, 0.3, 0.6, 0.9, 1 where 0, 1, 2, 3, more do.
    thirds = agree * min(3, agree - 1) + (num - agree) * min(3, agree)
    return thirds / (3 * num)


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _normalize(text: str) -> str:
    spaced = text
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        at_a_space = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if at_a_space or in_number else " ")
    spaced = _PERIOD.sub("", spaced, count=_MAX_PERIODS)
    words = (_NUMBERS.get(word, word) for word in spaced.lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


class AnswerScorer:
    """Scores one answer for each of B questions against one fixed set of references.

    | name | what it is |
    | --- | --- |
    | `accuracy` | the share that equals the commonest reference, letter by letter |
    | `vqa_accuracy` | `vqa_accuracy`; where any example has several references |
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Takes, for each of B examples, one reference or more; of equally common ones the first.

        Raises:
            UserError: there is no example, or one without a reference or with an empty one.
        """
        check_references(references)
        self._references = [list(group) for group in references]
        self._commonest = [Counter(group).most_common(1)[0][0] for group in references]
        sizes = {len(group) for group in references}
        self._nrefs = sizes.pop() if len(sizes) == 1 else "var"

    def score(self, hypotheses: Sequence[str]) -> Scores:
        """Scores B answers, from 0 to 100. An empty one is legal.

        Raises:
            UserError: another number of hypotheses than of examples.
        """
        check_number(hypotheses, self._references)
        equal = [one == other for one, other in zip(hypotheses, self._commonest, strict=True)]
        statistics = {"accuracy": weighted(100.0 * one for one in equal)}
        signatures = {"accuracy": f"accuracy|ref:majority|nrefs:{self._nrefs}"}
        warnings: tuple[str, ...] = ()
        if self._nrefs != 1:
            found = vqa_accuracy(hypotheses, self._references)
            statistics["vqa_accuracy"] = weighted(100 * one for one in found)
            signatures["vqa_accuracy"] = f"vqa_accuracy|nrefs:{self._nrefs}|norm:vqaEval-a013f00"
            warnings = self._warn_few()
        return Scores.of(signatures, statistics, warnings=warnings)

    def _warn_few(self) -> tuple[str, ...]:
        sizes = [len(group) for group in self._references]
        other = sum(size != NUM_VQA_ANSWERS for size in sizes)
        few = sum(size < ENOUGH_VQA_ANSWERS for size in sizes)
        if not other:
            return ()
        worth = f"; {few:,} have fewer than {ENOUGH_VQA_ANSWERS}, whose best answer is below 100"
        return (
            f"vqa_accuracy: {other:,} of {len(sizes):,} questions have another number of answers "
            f"than VQA's {NUM_VQA_ANSWERS}{worth if few else ''}",
        )


class LabelScorer:
    """Scores taggers, which give each frame of N sequences a label, against one reference each.

    | name | what it is |
    | --- | --- |
    | `accuracy` | the share of all frames whose label is right; long sequences weigh more |
    | `exact_match` | the share of sequences whose labels are all right |
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Takes, for each of N sequences, the labels of its frames.

        Raises:
            UserError: there is no example, or one without a reference or with an empty one.
        """
        check_references(references)
        self._references = [list(labels) for labels in references]

    def score(self, hypotheses: Sequence[Sequence[str]]) -> Scores:
        """Scores the labels of N sequences, from 0 to 100.

        Raises:
            UserError: another number of hypotheses than of examples, or one of another length than
                its reference.
        """
        check_number(hypotheses, self._references)
        right: list[int] = []
        for index, (labels, reference) in enumerate(zip(hypotheses, self._references, strict=True)):
            if len(labels) != len(reference):
                raise UserError(
                    f"hypotheses: example {index} has {len(labels)} labels for "
                    f"{len(reference)} frames; exactly one for each is needed"
                )
            right.append(sum(one == other for one, other in zip(labels, reference, strict=True)))
        frames = [len(reference) for reference in self._references]
        shares = [count / size for count, size in zip(right, frames, strict=True)]
        return Scores.of(
            {"accuracy": "accuracy|unit:frame", "exact_match": "exact_match"},
            {
                "accuracy": weighted((100 * share for share in shares), frames),
                "exact_match": weighted(100.0 * (share == 1) for share in shares),
            },
        )
