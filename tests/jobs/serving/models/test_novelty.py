"""Texts unlike the training split are told from those like it."""

from __future__ import annotations

from intertitle.jobs.serving.models.novelty import unknown_words
from intertitle.training.data.tokenizer import UNK_ID


def test_a_text_is_unknown_if_most_of_its_words_are() -> None:
    assert unknown_words([UNK_ID, UNK_ID, 5])[0].startswith("2 of 3 words")
    assert not unknown_words([UNK_ID, 5]) and not unknown_words([])
