"""Words to numbers and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, SPECIAL, UNK_ID, WordTokenizer

SENTENCES = ["A man rides a horse.", "A MAN, a plan: a canal!", "two dogs don't fight"]


def test_what_is_said_comes_back_in_lower_case_without_punctuation() -> None:
    words = WordTokenizer.train(SENTENCES, 1)
    told = [words.decode(words.encode(sentence)) for sentence in SENTENCES]
    assert told == ["a man rides a horse", "a man a plan a canal", "two dogs don't fight"]


def test_the_special_words_have_the_first_four_numbers() -> None:
    assert (PAD_ID, BOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)
    words = WordTokenizer.train(SENTENCES, 1)
    vocabulary = json.loads(words.to_json())["model"]["vocab"]
    assert [vocabulary[word] for word in SPECIAL] == [0, 1, 2, 3]
    # A person who writes one of them doesn't mean it.
    assert words.encode("<eos> <pad> <bos>") == [UNK_ID] * 3


def test_words_are_numbered_from_the_commonest_on() -> None:
    words = WordTokenizer.train(["b a", "b c", "b a"], 1)
    assert words.encode("b a c") == [4, 5, 6]


def test_rare_and_unseen_words_are_unknown() -> None:
    words = WordTokenizer.train(["a dog", "a cat", "a dog"], 2)
    assert words.encode("a dog") == [4, 5]
    assert words.encode("a cat sees a zebra") == [4, UNK_ID, UNK_ID, 4, UNK_ID]
    assert words.decode(words.encode("a cat")) == "a <unk>"
    assert len(words) == 4 + 2


def test_decoding_leaves_out_what_frames_a_sentence() -> None:
    words = WordTokenizer.train(["a dog"], 1)
    assert words.decode([BOS_ID, *words.encode("a dog"), EOS_ID, PAD_ID]) == "a dog"


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("a t-shirt's collar", "a t-shirt's collar"),
        ("'quoted' - and -dashed-", "quoted and dashed"),
        ("stop...now,or(never)", "stop now or never"),
        ("snake_'case", "snake case"),
        ("Cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"),
        ("3 men & 2 dogs", "3 men 2 dogs"),
        ("red\u00a0ball\tand\u3000cube", "red ball and cube"),
        ("?!", ""),
    ],
)
def test_a_word_is_letters_and_digits_and_what_holds_them_together(
    sentence: str, words: str
) -> None:
    tokenizer = WordTokenizer.train([sentence], 1)
    assert tokenizer.decode(tokenizer.encode(sentence)) == words
    assert len(tokenizer) == 4 + len(set(words.split()))


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_no_word_of_the_training_is_unknown_and_its_json_says_the_same(
    sentences: list[str],
) -> None:
    words = WordTokenizer.train(sentences, 1)
    encoded = words.encode_all(sentences)
    assert not any(UNK_ID in ids for ids in encoded)
    assert encoded == [words.encode(sentence) for sentence in sentences]
    assert WordTokenizer.from_json(words.to_json()).encode_all(sentences) == encoded


@given(st.text(alphabet="aB\u00e9_'-. ,9", max_size=20))
def test_what_was_decoded_is_encoded_to_the_same_words(sentence: str) -> None:
    words = WordTokenizer.train([sentence], 1)
    ids = words.encode(sentence)
    assert words.encode(words.decode(ids)) == ids
