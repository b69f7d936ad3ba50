"""Text to numbers and back."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import TokenizerKind
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, SPECIAL, UNK_ID, Tokenizer

SENTENCES = ["A man rides a horse.", "A MAN, a plan: a canal!", "two dogs don't fight"]
BUILD: dict[TokenizerKind, Callable[[Sequence[str]], Tokenizer]] = {
    "captions": lambda texts: Tokenizer.captions(texts, min_count=1),
    "words": lambda texts: Tokenizer.words(texts, min_count=1, lowercase=False),
    "characters": lambda texts: Tokenizer.characters(texts, min_count=1),
    "subwords": lambda texts: Tokenizer.subwords(texts, size=2000),
    "labels": lambda texts: Tokenizer.labels(texts, size=None),
}
kinds = pytest.mark.parametrize("kind", BUILD)
# Few letters, so that texts have parts in common; all that any of the kinds treats differently.
texts = st.lists(
    st.one_of(st.text(max_size=30), st.text("aB\u00e9e\u0301T\u0308\u2581'-.<> \n9", max_size=30)),
    min_size=1,
    max_size=5,
)


def test_there_is_a_vocabulary_of_each_kind() -> None:
    assert set(BUILD) == set(get_args(TokenizerKind))


@kinds
def test_the_special_tokens_are_the_first_four_and_nobody_can_write_them(
    kind: TokenizerKind,
) -> None:
    assert (PAD_ID, BOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)
    written = [*SPECIAL, "a <eos> b<pad>", "<bos><bos>", "<unk> <unk>"] * 3
    for tokenizer in (BUILD[kind](SENTENCES), BUILD[kind](SENTENCES + written)):
        assert tuple(tokenizer.tokens()[:4]) == SPECIAL
        for ids in tokenizer.encode_all(written):
            assert ids
            assert not {PAD_ID, BOS_ID, EOS_ID} & set(ids)


@kinds
@settings(max_examples=40, deadline=None)
@given(texts=texts, data=st.data())
def test_a_vocabulary_depends_on_the_texts_alone(
    kind: TokenizerKind, texts: list[str], data: st.DataObject
) -> None:
    tokenizer = BUILD[kind](texts)
    assert BUILD[kind](data.draw(st.permutations(texts))).to_json() == tokenizer.to_json()
    assert len(set(tokenizer.tokens())) == len(tokenizer)


@kinds
@settings(max_examples=40, deadline=None)
@given(texts=texts)
def test_no_text_of_the_training_is_unknown_and_its_json_says_the_same(
    kind: TokenizerKind, texts: list[str]
) -> None:
    tokenizer = BUILD[kind](texts)
    encoded = tokenizer.encode_all(texts)
    # As a label, the name of a special token is unknown for good.
    known = [ids for text, ids in zip(texts, encoded, strict=True) if text not in SPECIAL]
    assert not any(UNK_ID in ids for ids in known)
    assert encoded == [tokenizer.encode(text) for text in texts]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.kind, again.tokens()) == (kind, tokenizer.tokens())
    assert again.encode_all(texts) == encoded
    assert [again.decode(ids) for ids in encoded] == [tokenizer.decode(ids) for ids in encoded]


@kinds
@settings(max_examples=40, deadline=None)
@given(texts=texts)
def test_what_was_decoded_is_encoded_to_the_same_tokens(
    kind: TokenizerKind, texts: list[str]
) -> None:
    tokenizer = BUILD[kind](texts)
    for ids in tokenizer.encode_all(texts):
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


@kinds
def test_decoding_leaves_out_what_frames_a_text(kind: TokenizerKind) -> None:
    tokenizer = BUILD[kind](["a dog"])
    assert tokenizer.decode([BOS_ID, *tokenizer.encode("a dog"), EOS_ID, PAD_ID]) == "a dog"


@pytest.mark.parametrize("kind", ["captions", "words", "characters"])
def test_tokens_are_numbered_from_the_commonest_on_and_then_by_name(kind: TokenizerKind) -> None:
    tokenizer = BUILD[kind](["c b a", "b a", "b"])
    assert [t for t in tokenizer.tokens()[4:] if t != " "] == ["b", "a", "c"]
    assert [t for t in BUILD[kind](["c a", "b"]).tokens()[4:] if t != " "] == ["a", "b", "c"]


def test_captions_are_in_lower_case_without_punctuation() -> None:
    words = Tokenizer.captions(SENTENCES, min_count=1)
    told = [words.decode(words.encode(sentence)) for sentence in SENTENCES]
    assert told == ["a man rides a horse", "a man a plan a canal", "two dogs don't fight"]


@pytest.mark.parametrize("kind", [Tokenizer.captions, Tokenizer.words, Tokenizer.characters])
def test_rare_and_unseen_tokens_are_unknown(kind: Callable[..., Tokenizer]) -> None:
    choice = {"lowercase": True} if kind == Tokenizer.words else {}
    letters = kind(["a b", "a c", "a b"], min_count=2, **choice)
    assert UNK_ID not in letters.encode("a b")
    assert letters.encode("c") == letters.encode("z") == [UNK_ID]
    assert letters.decode(letters.encode("a c")) == "a <unk>"


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("a t-shirt's collar", "a t-shirt's collar"),
        ("'quoted' - and -dashed-", "quoted and dashed"),
        ("stop...now,or(never)", "stop now or never"),
        ("snake_'case", "snake case"),
        ("Cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"),
        ("T\u0308 t\u0308", "\u1e97 \u1e97"),
        ("3 men & 2 dogs", "3 men 2 dogs"),
        ("red\u00a0ball\tand\u3000cube", "red ball and cube"),
        ("?!", ""),
    ],
)
def test_a_word_is_letters_and_digits_and_what_holds_them_together(
    sentence: str, words: str
) -> None:
    tokenizer = Tokenizer.captions([sentence], min_count=1)
    assert tokenizer.decode(tokenizer.encode(sentence)) == words
    assert len(tokenizer) == 4 + len(set(words.split()))


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("what shape is in the image?", "what shape is in the image ?"),
        ("kind of , well", "kind of , well"),
        ("it's a slow-study--really...", "it's a slow-study - - really . . ."),
        (
            "l\u2019\u00e9t\u00e9 \u00ab CAFE\u0301 \u00bb",
            "l\u2019\u00e9t\u00e9 \u00ab CAF\u00c9 \u00bb",
        ),
        (
            "$5 \u2014 na\u00efve\u3000\u65e5\u672c\u3002",
            "$ 5 \u2014 na\u00efve \u65e5\u672c \u3002",
        ),
        ("snake_case 'quoted'", "snake _ case ' quoted '"),
    ],
)
def test_punctuation_marks_are_words_of_their_own(sentence: str, tokens: str) -> None:
    cased = Tokenizer.words([sentence], min_count=1, lowercase=False)
    assert cased.decode(cased.encode(sentence)) == tokens
    lower = Tokenizer.words([sentence], min_count=1, lowercase=True)
    assert lower.decode(lower.encode(sentence)) == tokens.lower()
    assert len(cased) == 4 + len(set(tokens.split()))


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_characters_come_back_as_they_were(text: str) -> None:
    tokenizer = Tokenizer.characters([text], min_count=1)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


@settings(max_examples=60, deadline=None)
@given(texts=texts, size=st.integers(40, 200))
def test_subwords_come_back_as_they_were(texts: list[str], size: int) -> None:
    tokenizer = Tokenizer.subwords(texts, size=size)
    assert len(tokenizer) <= size
    for text in texts:
        ids = tokenizer.encode(text)
        if UNK_ID not in ids:
            expected = unicodedata.normalize("NFC", text).replace("\u2581", " ")
            assert tokenizer.decode(ids) == expected


def test_subwords_merge_the_commonest_pair_first() -> None:
    # The example of Sennrich et al. 2016, section 3.2, with the border of words in front.
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    tokenizer = Tokenizer.subwords(words, size=4 + 11 + 5)
    assert tokenizer.tokens()[4:] == [
        *"deilnorstw\u2581",
        "es",
        "est",
        "lo",
        "\u2581lo",
        "\u2581low",
    ]
    assert [tokenizer.tokens()[i] for i in tokenizer.encode("lowest")] == ["\u2581low", "est"]


def test_subwords_stay_within_a_word_and_know_no_other_character() -> None:
    tokenizer = Tokenizer.subwords(["a dog.", "a dog.", "don't", "don't"], size=100)
    pieces = [tokenizer.tokens()[i] for i in tokenizer.encode("a dog. don't")]
    assert pieces == ["\u2581a", "\u2581dog", ".", "\u2581don't"]
    assert tokenizer.decode(tokenizer.encode("a z dog")) == "a <unk> dog"


def test_what_occurs_once_is_no_pattern() -> None:
    assert Tokenizer.subwords(["abc"], size=100).tokens()[4:] == ["a", "b", "c", "\u2581"]
    assert "\u2581ab" in Tokenizer.subwords(["ab ab"], size=100).tokens()


def test_only_the_commonest_characters_fit_a_small_vocabulary() -> None:
    tokenizer = Tokenizer.subwords(["z y x z", "w v u z"], size=4 + 3)
    assert set(tokenizer.tokens()[4:]) == {"\u2581", "z", "u"}


def test_its_json_is_text_that_can_be_read() -> None:
    assert (
        '"\u5267\u7167"'
        in Tokenizer.words(["\u5267\u7167"], min_count=1, lowercase=False).to_json()
    )


def test_a_text_that_is_none_is_refused_by_what_it_is() -> None:
    tokenizer = Tokenizer.captions(SENTENCES, min_count=1)
    with pytest.raises(UserError, match=r"^half .*: not UTF-8"):
        tokenizer.encode_all(["a man", "half \ud800", "two dogs"])


def test_a_label_is_one_token_whatever_is_in_it() -> None:
    labels = ["very good", "Yes.", "no", "very good", "no", "a", ""]
    tokenizer = Tokenizer.labels(labels, size=3)
    assert tokenizer.tokens()[4:] == ["no", "very good", "Yes."]
    assert tokenizer.encode_all(["very good", "yes.", " no", "a"]) == [[5], *[[UNK_ID]] * 3]
    assert tokenizer.encode("") == []
    assert tokenizer.decode([5]) == "very good"
    assert len(Tokenizer.labels(labels, size=None)) == 4 + 4
