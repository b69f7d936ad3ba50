"""Sentences to numbers and back: words, over the Hugging Face `tokenizers` library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


class WordTokenizer:
    """Lower-cased words without punctuation, as captions are measured.

    Args:
        tokenizer: a Hugging Face tokenizer of kind WordLevel whose first words are `SPECIAL`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, sentences: Iterable[str], min_count: int) -> WordTokenizer:
        """Build a vocabulary of the words seen at least `min_count` times, commonest first."""
        tokenizer = Tokenizer(WordLevel({}, unk_token=SPECIAL[UNK_ID]))
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Lowercase(),
                # What is neither a letter, a digit nor inside a word ("don't", "t-shirt").
                normalizers.Replace(
                    Regex(
                        r"[^\p{L}\p{M}\p{N}\s'-]"
                        r"|(?<![\p{L}\p{M}\p{N}])['-]|['-](?![\p{L}\p{M}\p{N}])"
                    ),
                    " ",
                ),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        normalize, split = tokenizer.normalizer.normalize_str, str.split
        counts = Counter(word for s in sentences for word in split(normalize(s)))
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        words = [*SPECIAL, *(w for w, n in ranked if n >= min_count and w not in SPECIAL)]
        tokenizer.model = WordLevel(
            {word: i for i, word in enumerate(words)}, unk_token=SPECIAL[UNK_ID]
        )
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> WordTokenizer:
        """The inverse of `to_json`."""
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """All of it, as one text."""
        return str(self._tokenizer.to_str())

    def __len__(self) -> int:
        """V, the number of words with the special ones."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, sentence: str) -> list[int]:
        """Numbers of a sentence's words, without <bos> and <eos>."""
        return list(self._tokenizer.encode(sentence).ids)

    def encode_all(self, sentences: Sequence[str]) -> list[list[int]]:
        """`encode` for many, on all cores."""
        return [list(e.ids) for e in self._tokenizer.encode_batch(list(sentences))]

    def decode(self, ids: Sequence[int]) -> str:
        """Words of a sentence, joined by spaces; special ones but <unk> are left out."""
        kept = (i for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID))
        return " ".join(str(self._tokenizer.id_to_token(i)) for i in kept)
