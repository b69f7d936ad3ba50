"""Text to numbers and back, over the Hugging Face `tokenizers` library."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from pipeline.errors import UserError, is_text, one_line

PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

TokenizerKind = Literal["captions", "words", "characters", "subwords", "labels"]

_LETTER = r"[\p{L}\p{M}\p{N}]"
# Letters and digits, and what holds them together: "don't", "t-shirt".
_WORD = rf"{_LETTER}+(?:['’-]{_LETTER}+)*"
# What stands for a space within a subword, as in SentencePiece.
_SPACE = "\u2581"


class Tokenizer:
    """A vocabulary and the rule that cuts a text into tokens of it.

    Whatever the rule, the first four tokens are `SPECIAL`, and a text that spells one of them out
    does not mean it: no text is encoded to <pad>, <bos> or <eos>.

    Args:
        kind: the class method that built it.
        tokenizer: a Hugging Face tokenizer whose first tokens are `SPECIAL`.
    """

    def __init__(self, kind: TokenizerKind, tokenizer: HFTokenizer) -> None:
        self._kind = kind
        self._tokenizer = tokenizer

    @classmethod
    def captions(cls, sentences: Iterable[str], *, min_count: int) -> Tokenizer:
        """Lower-cased words without punctuation, as captions are measured.

        The vocabulary is the words seen at least `min_count` times, commonest first.
        """
        tokenizer = HFTokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Sequence(
            [
                # In this order: a lower-case letter may have a composed form where its capital
                # has none.
                normalizers.Lowercase(),
                normalizers.NFC(),
                # What is neither a letter, a digit nor inside a word.
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
        """Words, and every punctuation mark or symbol as a token of its own.

        The vocabulary is the tokens seen at least `min_count` times, commonest first.
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
        """Every character, also a white one, as a token: what is known is decoded as it was.

        The vocabulary is the characters seen at least `min_count` times, commonest first.
        """
        tokenizer = HFTokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
        return cls("characters", _train_words(tokenizer, sentences, min_count))

    @classmethod
    def subwords(cls, sentences: Iterable[str], *, size: int) -> Tokenizer:
        """Byte pair encoding of characters (Sennrich et al. 2016, arXiv:1508.07909).

        A space belongs to the word behind it, so that decoding gives back the text, in Unicode's
        normal form C, where its characters are known. Only U+2581, which stands for the space
        inside the vocabulary, comes back as one. Merges stay within a word: a mark of punctuation
        is a token of its own.

        Args:
            sentences: to learn the merges from; their order does not matter.
            size: V at most, with the special tokens: at least 4. The characters come first, the
                commonest of them if there are more than fit; then the merges as they were learned.
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
        # Counted here because the trainer limits the alphabet in an order that changes by the run.
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(normalizer.normalize_str(sentence))
        alphabet = _commonest(counts)[: size - len(SPECIAL)]
        trainer = BpeTrainer(
            vocab_size=size,
            min_frequency=2,  # as the authors' own: what was seen once is no pattern
            special_tokens=list(SPECIAL),
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        return cls("subwords", _train(tokenizer, sentences, trainer))

    @classmethod
    def labels(cls, labels: Iterable[str], *, size: int | None) -> Tokenizer:
        """A whole text as one token, such as the name of a class or an answer; none if empty.

        The vocabulary is the commonest `size` labels, or all; of equally common ones the first by
        name. A label spelled like a special token is unknown.
        """
        ranked = _commonest(Counter(labels))
        known = [label for label in ranked if label and label not in SPECIAL][:size]
        vocabulary = {token: i for i, token in enumerate([*SPECIAL, *known])}
        tokenizer = HFTokenizer(WordLevel(vocabulary, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Replace(
            Regex(rf"\A(?:{'|'.join(SPECIAL)})\z"), SPECIAL[UNK_ID]
        )
        return cls("labels", tokenizer)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The inverse of `to_json`."""
        data = json.loads(text)
        return cls(data["kind"], HFTokenizer.from_str(json.dumps(data["tokenizer"])))

    def to_json(self) -> str:
        """All of it, as one text: {"kind": ..., "tokenizer": what Hugging Face's is made from}."""
        return json.dumps(
            {"kind": self._kind, "tokenizer": json.loads(self._tokenizer.to_str())},
            ensure_ascii=False,
        )

    @property
    def kind(self) -> TokenizerKind:
        """The class method that built it."""
        return self._kind

    def __len__(self) -> int:
        """V, the number of tokens with the special ones."""
        return int(self._tokenizer.get_vocab_size())

    def tokens(self) -> list[str]:
        """The vocabulary by number; a space inside a subword is U+2581."""
        ids: dict[str, int] = self._tokenizer.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    def encode(self, sentence: str) -> list[int]:
        """Numbers of a text's tokens, without <bos> and <eos>; see `encode_all`."""
        return self.encode_all([sentence])[0]

    def encode_all(self, sentences: Sequence[str]) -> list[list[int]]:
        """`encode` for many, on all cores.

        Raises:
            UserError: one holds what UTF-8 cannot.
        """
        texts = list(sentences)
        try:
            return [list(e.ids) for e in self._tokenizer.encode_batch(texts)]
        except TypeError as error:
            # It does not say which.
            wrong = next(text for text in texts if not is_text(text))
            raise UserError(f"{one_line(wrong)}: not UTF-8, which is allowed alone") from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens; special ones but <unk> are left out.

        Words are joined by spaces, characters and subwords by nothing.
        """
        kept = [i for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID)]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False))


def _commonest(counts: Counter[str]) -> list[str]:
    """By count, and by themselves where that is equal, so that each run says the same."""
    return sorted(counts, key=lambda token: (-counts[token], token))


def _train_words(tokenizer: HFTokenizer, sentences: Iterable[str], min_count: int) -> HFTokenizer:
    """A tokenizer of the pieces seen at least `min_count` times, ranked as by `_commonest`."""
    trainer = WordLevelTrainer(
        vocab_size=sys.maxsize,
        min_frequency=min_count,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    return _train(tokenizer, sentences, trainer)


def _train(tokenizer: HFTokenizer, sentences: Iterable[str], trainer: Any) -> HFTokenizer:
    tokenizer.train_from_iterator(sentences, trainer)
    # The trainer also had the special tokens found in text, where nobody means them.
    trained = json.loads(tokenizer.to_str())
    return HFTokenizer.from_str(json.dumps({**trained, "added_tokens": []}))
