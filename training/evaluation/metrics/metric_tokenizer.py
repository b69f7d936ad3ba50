"""Tokenizers for metrics that count words; the right one depends on the language.

They are those of sacreBLEU. `13a`, the default, splits at blanks and ASCII punctuation: it makes
one token of a Chinese sentence, so that BLEU is 0 even for a perfect translation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, get_args

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import MetricTask
from intertitle.training.config.sections import MetricTokenizer

AUTO, DEFAULT = "auto", "13a"
"""sacreBLEU's names; "auto" follows the language of the targets."""
TOKENIZERS = tuple(name for name in get_args(MetricTokenizer) if name != AUTO)

# Tokenizers by ISO 639-1 or 639-3 code. The languages of the last line have no blanks between words
# and no tokenizer that works without a download.
_OF_LANGUAGE: dict[str, str] = {
    **dict.fromkeys(("zh", "cmn", "yue", "zho"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "char"),
}
_ENGLISH = frozenset({"en", "eng"})
_PACKAGES = {"ja-mecab": "ja", "ko-mecab": "ko", "flores101": "flores", "flores200": "flores"}

_BETWEEN_CLAUSES = re.compile(r"[^\w\s'’-]|_")
_IN_A_WORD = re.compile(r"[^\W_]")


def base_language(language: str) -> str:
    """Return a language code without its script or country: `zh` for `zh_CN` or `zh-Hans`."""
    return re.split(r"[-_.]", language.lower(), maxsplit=1)[0]


def choose_tokenizer(setting: str, language: str | None) -> str:
    """Return the name of the tokenizer that a setting selects for a target language.

    Args:
        setting: name of a tokenizer, or `AUTO`.
        language: code of the target language, or None if it is unknown.
    """
    if setting != AUTO:
        return setting
    return _OF_LANGUAGE.get(base_language(language or ""), DEFAULT)


def why_no_meteor(tokenizer: str, language: str | None, task: MetricTask) -> str | None:
    """Return the reason why METEOR can't measure sentences of a language, or None if it can.

    Captions of an unknown language are taken to be English, translations are not.
    """
    if language is None and task == "translation":
        return "METEOR is for English, and the corpus states no --target-language"
    if language is not None and base_language(language) not in _ENGLISH:
        return f"METEOR's stems, synonyms and paraphrases are English, the targets are {language!r}"
    if tokenizer != DEFAULT and task != "translation":
        return f"METEOR's words are those of English, the tokenizer is {tokenizer!r}"
    return None


@cache
def open_tokenizer(name: str) -> Any:
    """Open a tokenizer: a function from a text to its tokens joined by blanks, with a `signature`.

    Raises:
        UserError: a package or a file that it needs is missing and can't be downloaded.
    """
    from sacrebleu.metrics import BLEU  # the import takes half a second

    try:
        return BLEU(tokenize=name).tokenizer
    except (ImportError, RuntimeError, OSError, SystemExit) as error:
        extra = _PACKAGES.get(name, "")
        hint = " and, once, a download" if extra == "flores" else ""
        lines = str(error).split("\n")
        reason = next((line.strip() for line in lines if line.strip()), type(error).__name__)
        raise UserError(
            f"evaluation.tokenizer: {name!r} needs the extra {extra!r} (`pip install "
            f"'intertitle[{extra}]'`){hint}: {reason}; allowed without: 13a, intl, char, zh"
        ) from error


def words_for_captions(name: str) -> Callable[[str], str]:
    """Return a function from a caption to its words as coco-caption counts them.

    The words are in lower case, without punctuation, and joined by blanks.
    """
    tokenizer = open_tokenizer(name)

    def words(text: str) -> str:
        tokens = tokenizer(text.lower()).split()
        return " ".join(token for token in tokens if _IN_A_WORD.search(token))

    return words


def num_words(text: str, name: str) -> int:
    """Count the words of a text: split at blanks by `DEFAULT`, else by the tokenizer."""
    return len((text if name == DEFAULT else words_for_captions(name)(text)).split())


def warn_unsplit(texts: Iterable[str], name: str) -> tuple[str, ...]:
    """Warn if a tokenizer does not split the words of a language.

    Args:
        texts: reference texts.
        name: name of the tokenizer.

    Returns:
        One warning if the tokenizer makes a single token of most sentences, or of each clause in
        most of them; else an empty tuple.
    """
    tokenizer = open_tokenizer(name)
    num = num_unsplit = 0
    for text in texts:
        num_tokens = sum(1 for token in tokenizer(text).split() if _IN_A_WORD.search(token))
        num_clauses = sum(1 for part in _BETWEEN_CLAUSES.split(text) if _IN_A_WORD.search(part))
        num += 1
        num_unsplit += num_tokens <= num_clauses
    if 2 * num_unsplit <= num:
        return ()
    return (
        f"the tokenizer {name!r} makes one token of {num_unsplit:,} of {num:,} references, so that "
        "scores of n-grams say little: evaluation.tokenizer, or --tokenizer of evaluate, allowed: "
        f"{', '.join(TOKENIZERS)}",
    )
