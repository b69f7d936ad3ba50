"""Metrics that compare whole answers: labels of questions, texts and frames, and sentences.

| name | definition |
| --- | --- |
| `accuracy` | share of answers that equal the most common reference exactly, or of all frames |
| `vqa_accuracy` | see `vqa_accuracy`; only if any example has several references |
| `exact_match` | share of sentences that equal a reference, or of sequences with all labels right |
"""

import re
from collections.abc import Sequence
from statistics import mode

from intertitle.training.config.metrics import Measured, Metric
from intertitle.training.evaluation.metrics.predictions import Predictions
from intertitle.training.evaluation.metrics.scores import check_count, weighted

NUM_VQA_ANSWERS = 10
"""How many people answered each question of VQA."""
ENOUGH_VQA_ANSWERS = 3
"""With fewer, VQA's accuracy of the answer that all of them give is below 1."""

# Normalization of answers as in the official code of VQA, including its errors, because published
# figures use it: vqaEval.py of https://github.com/GT-Vision-Lab/VQA as of a013f00, 2021.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ANY_PUNCTUATION = re.compile(r"[^\w\s]|_")
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

    Antol et al., "VQA: Visual Question Answering", 2015: min(1, number of people who agree / 3). Of
    ten references, as VQA has, it is the mean over the ten ways to leave one person out, as in the
    official code. Any other number may be soft scores, where an answer with the score n / 3 is
    given n times. As in the official code, texts are normalized only if the N references are not
    all the same.

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
    agree = references.count(answer)
    if len(references) != NUM_VQA_ANSWERS:
        return min(1, agree / ENOUGH_VQA_ANSWERS)
    # The person left out either agrees or does not: the accuracy is 0, 0.3, 0.6, 0.9 or 1 if 0, 1,
    # 2, 3 or more agree.
    thirds = agree * min(3, agree - 1) + (NUM_VQA_ANSWERS - agree) * min(3, agree)
    return thirds / (3 * NUM_VQA_ANSWERS)


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


def _measure_accuracy(predictions: Predictions) -> Measured:
    """Measure the share of right labels: of all frames, where each has one.

    Of several references, the most common one is right; of equally common ones, the first.
    """
    references = predictions.references
    if predictions.task == "label_per_frame":
        frames, shares = [len(labels) for labels in references.texts], _shares(predictions)
        return Measured("accuracy|unit:frame", weighted((100 * s for s in shares), frames))
    commonest = [mode(group) for group in references.texts]
    is_equal = [text == right for text, right in zip(predictions.texts, commonest, strict=True)]
    signature = f"accuracy|ref:majority|nrefs:{references.nrefs}"
    return Measured(signature, weighted(100.0 * equal for equal in is_equal))


def _shares(predictions: Predictions) -> list[float]:
    """Return the share of right labels of each sequence."""
    pairs = zip(predictions.labels, predictions.references.texts, strict=True)
    return [
        sum(label == right for label, right in zip(labels, reference, strict=True)) / len(reference)
        for labels, reference in pairs
    ]


def _measure_vqa_accuracy(predictions: Predictions) -> Measured | None:
    references = predictions.references
    if references.nrefs == "1":
        return None
    accuracies = vqa_accuracy(predictions.texts, references.texts)
    thirds = "" if references.nrefs == str(NUM_VQA_ANSWERS) else "|others:thirds"
    return Measured(
        f"vqa_accuracy|nrefs:{references.nrefs}{thirds}|norm:vqaEval-a013f00",
        weighted(100 * value for value in accuracies),
        _warn_few([len(group) for group in references.texts]),
    )


def _warn_few(sizes: Sequence[int]) -> tuple[str, ...]:
    """Warn of questions with another number of answers than VQA's."""
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


def _measure_exact_match(predictions: Predictions) -> Measured:
    """Measure the share of sentences that equal a reference, or of sequences of right labels.

    Sentences are compared in lower case without punctuation.
    """
    references = predictions.references
    if predictions.task == "label_per_frame":
        shares = _shares(predictions)
        return Measured("exact_match", weighted(100.0 * (share == 1) for share in shares))
    # A hypothesis without any word never matches, even if a reference has no word either.
    plain = references.prepared(
        "exact_match", lambda: [set(map(_plain, group)) - {""} for group in references.texts]
    )
    matches = [_plain(text) in group for text, group in zip(predictions.texts, plain, strict=True)]
    signature = f"exact_match|nrefs:{references.nrefs}|norm:casefold-nopunct-blanks"
    return Measured(signature, weighted([100.0 * is_equal for is_equal in matches]))


def _plain(text: str) -> str:
    return " ".join(_ANY_PUNCTUATION.sub(" ", text.casefold()).split())


ACCURACY = Metric(
    "accuracy", ("label", "answer", "label_per_frame"), _measure_accuracy, monitor=True
)
VQA_ACCURACY = Metric("vqa_accuracy", ("label", "answer"), _measure_vqa_accuracy)
EXACT_MATCH = Metric(
    "exact_match",
    ("caption", "translation", "label_per_frame"),
    _measure_exact_match,
    quick=("translation", "label_per_frame"),
)
