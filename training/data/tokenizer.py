"""Tokenizers, built on the Hugging Face `tokenizers` library."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from intertitle.pipeline.errors import UserError, is_text, one_line
from intertitle.training.config.sections import TokenizerKind

PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


_LETTER = r"[\p{L}\p{M}\p{N}]"
# Letters and digits, joined by apostrophes or hyphens: "don't", "t-shirt".
_WORD = rf"{_LETTER}+(?:['’-]{_LETTER}+)*"
# Represents a space within a subword, as in SentencePiece.
_SPACE = "\u2581"


class Tokenizer:
    """A vocabulary and the rule that splits a text into its tokens.

    With every rule, the first four tokens are `SPECIAL`. A text that contains the name of one of
    them is ordinary text: no text is encoded to <pad>, <bos> or <eos>.

    Args:
        kind: name of the class method that built the tokenizer.
        tokenizer: Hugging Face tokenizer whose first tokens are `SPECIAL`.
    """

    def __init__(self, kind: TokenizerKind, tokenizer: HFTokenizer) -> None:
        self._kind = kind
        self._tokenizer = tokenizer

    @classmethod
    def captions(cls, sentences: Iterable[str], *, min_count: int) -> Tokenizer:
        """Build a tokenizer of lower-cased words without punctuation, as in caption metrics.

        The vocabulary consists of the words that occur at least `min_count` times, most common
        first.
        """
        tokenizer = HFTokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Sequence(
            [
                # The order matters: a lower-case letter may have a composed form where its
                # capital has none.
                normalizers.Lowercase(),
                normalizers.NFC(),
                # Remove characters that are neither a letter, a digit nor inside a word.
                normalizers.Replace(
                    Regex(rf"[^\p{{L}}\p{{M}}\p{{N}}\s'-]|(?<!{_LETTER})['-]|['-](?!{_LETTER})"),
                    " ",
                ),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls("captions", _train_words(tokenizer, sentences, min_count))

    @classmethod
    def words(cls, sentences: Iterable[str], *, min_count: int, lowercase: bool) -> Tokenizer:
        """Build a tokenizer of words, with every punctuation mark or symbol as a separate token.

        The vocabulary consists of the tokens that occur at least `min_count` times, most common
        first.
        """
        tokenizer = HFTokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Sequence(
            [*([normalizers.Lowercase()] if lowercase else []), normalizers.NFC()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            Regex(rf"{_WORD}|\S"), behavior="removed", invert=True
        )
        return cls("words", _train_words(tokenizer, sentences, min_count))

    @classmethod
    def characters(cls, sentences: Iterable[str], *, min_count: int) -> Tokenizer:
        """Build a tokenizer of characters, including white space.

        A text of known characters is decoded exactly. The vocabulary consists of the characters
        that occur at least `min_count` times, most common first.
        """
        tokenizer = HFTokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
        return cls("characters", _train_words(tokenizer, sentences, min_count))

    @classmethod
    def subwords(cls, sentences: Iterable[str], *, size: int) -> Tokenizer:
        """Build a tokenizer of subwords by byte pair encoding of characters.

        Sennrich et al. 2016, arXiv:1508.07909. A space belongs to the word after it, so that
        decoding restores the text, in Unicode's normal form C, if its characters are known. Only
        U+2581, which represents the space inside the vocabulary, is decoded as a space. Merges stay
        within a word: a punctuation mark is a separate token.

        Args:
            sentences: texts to learn the merges from; their order does not matter.
            size: V, maximum size of the vocabulary with the special tokens, at least 4. The
                characters come first, the most common ones if not all fit; then the merges in the
                order in which they were learned.
        """
        sentences = list(sentences)
        normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(" ", _SPACE), normalizers.Prepend(_SPACE)]
        )
        tokenizer = HFTokenizer(BPE(unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Split(
            Regex(rf"{_SPACE}?(?:{_WORD}|[^\s{_SPACE}])|[\s{_SPACE}]"), behavior="isolated"
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        # Counted here because the trainer's own limit of the alphabet differs between runs.
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(normalizer.normalize_str(sentence))
        alphabet = _by_frequency(counts)[: size - len(SPECIAL)]
        trainer = BpeTrainer(
            vocab_size=size,
            min_frequency=2,  # as in the authors' implementation: a single occurrence is no pattern
            special_tokens=list(SPECIAL),
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        return cls("subwords", _train(tokenizer, sentences, trainer))

    @classmethod
    def labels(cls, labels: Iterable[str], *, size: int | None) -> Tokenizer:
        """Build a tokenizer that encodes a whole text as one token.

        A text is the name of a class or an answer, for example; an empty text has no token. The
        vocabulary consists of the `size` most common labels, or of all labels; equally common
        labels are ordered by name. A label that is spelled like a special token is unknown.
        """
        ranked = _by_frequency(Counter(labels))
        known = [label for label in ranked if label and label not in SPECIAL][:size]
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *known])}
        tokenizer = HFTokenizer(WordLevel(vocabulary, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Replace(
            Regex(rf"\A(?:{'|'.join(SPECIAL)})\z"), SPECIAL[UNK_ID]
        )
        return cls("labels", tokenizer)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Load a tokenizer from the result of `to_json`."""
        data = json.loads(text)
        return cls(data["kind"], HFTokenizer.from_str(json.dumps(data["tokenizer"])))

    def to_json(self) -> str:
        """Serialize the tokenizer to JSON.

        Returns:
            {"kind": ..., "tokenizer": JSON of the Hugging Face tokenizer}, as text.
        """
        return json.dumps(
            {"kind": self._kind, "tokenizer": json.loads(self._tokenizer.to_str())},
            ensure_ascii=False,
        )

    @property
    def kind(self) -> TokenizerKind:
        """Name of the class method that built the tokenizer."""
        return self._kind

    def __len__(self) -> int:
        """Return V, the number of tokens including the special ones."""
        return int(self._tokenizer.get_vocab_size())

    def tokens(self) -> list[str]:
        """Return the vocabulary in order of the ids; a space inside a subword is U+2581."""
        ids: dict[str, int] = self._tokenizer.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    def encode(self, sentence: str) -> list[int]:
        """Return the token ids of a text, without <bos> and <eos>; see `encode_all`."""
        return self.encode_all([sentence])[0]

    def encode_all(self, sentences: Sequence[str]) -> list[list[int]]:
        """Encode many texts like `encode`, on all cores.

        Raises:
            UserError: a text can't be represented in UTF-8.
        """
        texts = list(sentences)
        try:
            return [list(e.ids) for e in self._tokenizer.encode_batch(texts)]
        except TypeError as error:
            # The error does not name the text.
            wrong = next(text for text in texts if not is_text(text))
            raise UserError(f"{one_line(wrong)}: not UTF-8, which is allowed alone") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; special tokens except <unk> are left out.

        Words are joined by spaces, characters and subwords without a separator.
        """
        text_ids = [i for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID)]
        return str(self._tokenizer.decode(text_ids, skip_special_tokens=False))


def _by_frequency(counts: Counter[str]) -> list[str]:
    """Sort tokens by descending count, and equally common ones by name, to be deterministic."""
    return sorted(counts, key=lambda token: (-counts[token], token))


def _train_words(tokenizer: HFTokenizer, sentences: Iterable[str], min_count: int) -> HFTokenizer:
    """Train a tokenizer on the tokens that occur at least `min_count` times.

    The vocabulary is in the order of `_by_frequency`.
    """
    trainer = WordLevelTrainer(
        vocab_size=sys.maxsize,
        min_frequency=min_count,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    return _train(tokenizer, sentences, trainer)


def _train(tokenizer: HFTokenizer, sentences: Iterable[str], trainer: Any) -> HFTokenizer:
    tokenizer.train_from_iterator(sentences, trainer)
    # The trainer also lets the tokenizer find special tokens in texts, where they are plain text.
    trained = json.loads(tokenizer.to_str())
    return HFTokenizer.from_str(json.dumps({**trained, "added_tokens": []}))
