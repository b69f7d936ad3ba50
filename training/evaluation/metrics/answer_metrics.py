"""Metrics for systems that answer with labels: one for a question, or one for each frame."""

import re
from collections.abc import Sequence
from statistics import mode

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.scores import (
    Scores,
    check_count,
    check_references,
    weighted,
)

NUM_VQA_ANSWERS = 10
"""How many people answered each question of VQA."""
ENOUGH_VQA_ANSWERS = 4
"""With fewer, VQA's accuracy of the answer that all of them give is below 1."""

# Normalization of answers as in the official code of VQA, including its errors, because published
# figures use it: vqaEval.py of https://github.com/GT-Vision-Lab/VQA as of a013f00, 2021.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile("[0-9],[0-9]")
_PERIOD = re.compile(r"\.(?![0-9])")
_MAX_PERIODS = 32  # the official code passes re.UNICODE, which is 32, as the `count` of `sub`
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
# A contraction that lacks one of its apostrophes is corrected. The last entry is reversed in the
# official code too.
_APOSTROPHES = {
    word[:at] + word[at + 1 :]: word
    for word in _CONTRACTIONS.split()
    for at, character in enumerate(word)
    if character == "'"
} | {"somebody'd": "somebodyd"}


def vqa_accuracy(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute the accuracy, from 0 to 1, of each of B answers against N reference answers.

    Antol et al., "VQA: Visual Question Answering", 2015: the mean, over the N ways to leave one
    person out, of min(1, number of the remaining people who agree / 3). N is 10 in VQA, but may be
    any number. As in the official code, texts are normalized only if the N references are not all
    the same.

    Raises:
        UserError: the numbers of answers and of examples differ.
    """
    check_count(answers, references)
    return [
        _accuracy_of_one(answer, group) for answer, group in zip(answers, references, strict=True)
    ]


def _accuracy_of_one(answer: str, references: Sequence[str]) -> float:
    answer, *references = (_on_one_line(text) for text in (answer, *references))
    if len(set(references)) > 1:
        answer, *references = (_normalize(text) for text in (answer, *references))
    num, agree = len(references), references.count(answer)
    # The person left out either agrees or does not. With ten references the accuracy is 0, 0.3,
    # 0.6, 0.9 or 1 if 0, 1, 2, 3 or more agree.
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
    """Scores one answer for each of B questions against a fixed set of references.

    | name | definition |
    | --- | --- |
    | `accuracy` | share of answers that equal the most common reference exactly |
    | `vqa_accuracy` | see `vqa_accuracy`; only if any example has several references |
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Store the references.

        Args:
            references: one or more reference answers for each of B examples; of several most common
                ones, the first counts.

        Raises:
            UserError: there is no example, or an example has no reference or an empty one.
        """
        check_references(references)
        self._references = [list(group) for group in references]
        self._commonest = [mode(group) for group in references]
        sizes = {len(group) for group in references}
        self._nrefs = sizes.pop() if len(sizes) == 1 else "var"

    def score(self, hypotheses: Sequence[str]) -> Scores:
        """Score B answers, from 0 to 100. An empty answer is allowed.

        Raises:
            UserError: the numbers of hypotheses and of examples differ.
        """
        check_count(hypotheses, self._references)
        is_equal = [
            value == expected for value, expected in zip(hypotheses, self._commonest, strict=True)
        ]
        statistics = {"accuracy": weighted(100.0 * value for value in is_equal)}
        signatures = {"accuracy": f"accuracy|ref:majority|nrefs:{self._nrefs}"}
        warnings: tuple[str, ...] = ()
        if self._nrefs != 1:
            accuracies = vqa_accuracy(hypotheses, self._references)
            statistics["vqa_accuracy"] = weighted(100 * value for value in accuracies)
            signatures["vqa_accuracy"] = f"vqa_accuracy|nrefs:{self._nrefs}|norm:vqaEval-a013f00"
            warnings = self._warn_few()
        return Scores.of(signatures, statistics, warnings=warnings)

    def _warn_few(self) -> tuple[str, ...]:
        sizes = [len(group) for group in self._references]
        unusual = sum(size != NUM_VQA_ANSWERS for size in sizes)
        num_few = sum(size < ENOUGH_VQA_ANSWERS for size in sizes)
        if not unusual:
            return ()
        consequence = (
            f"; {num_few:,} have fewer than {ENOUGH_VQA_ANSWERS}, whose best answer is below 100"
        )
        return (
            f"vqa_accuracy: {unusual:,} of {len(sizes):,} questions have another number of answers "
            f"than VQA's {NUM_VQA_ANSWERS}{consequence if num_few else ''}",
        )


class LabelScorer:
    """Scores one label for each frame of N sequences, against one reference sequence each.

    | name | definition |
    | --- | --- |
    | `accuracy` | share of all frames with the right label; long sequences weigh more |
    | `exact_match` | share of sequences in which all labels are right |
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Store the references.

        Args:
            references: labels of the frames of each of N sequences.

        Raises:
            UserError: there is no example, or an example has no reference or an empty one.
        """
        check_references(references)
        self._references = [list(labels) for labels in references]

    def score(self, hypotheses: Sequence[Sequence[str]]) -> Scores:
        """Score the labels of N sequences, from 0 to 100.

        Raises:
            UserError: the numbers of hypotheses and of examples differ, or the length of a
                hypothesis and that of its reference.
        """
        check_count(hypotheses, self._references)
        num_right: list[int] = []
        for index, (labels, reference) in enumerate(zip(hypotheses, self._references, strict=True)):
            if len(labels) != len(reference):
                raise UserError(
                    f"hypotheses: example {index} has {len(labels)} labels for "
                    f"{len(reference)} frames; exactly one for each is needed"
                )
            num_right.append(
                sum(label == expected for label, expected in zip(labels, reference, strict=True))
            )
        frames = [len(reference) for reference in self._references]
        shares = [count / size for count, size in zip(num_right, frames, strict=True)]
        return Scores.of(
            {"accuracy": "accuracy|unit:frame", "exact_match": "exact_match"},
            {
                "accuracy": weighted((100 * share for share in shares), frames),
                "exact_match": weighted(100.0 * (share == 1) for share in shares),
            },
        )
