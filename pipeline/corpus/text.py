"""Normalization of the texts of a corpus."""

from __future__ import annotations

import re

# Control characters (Cc), line and paragraph separators (Zl, Zp), and surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Normalize a text so that it fits on one line of any file.

    Control characters and runs of white space become one space. A lone surrogate, which UTF-8
    cannot encode, becomes U+FFFD.
    """
    if _UNSAFE.search(text):
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        text = _UNSAFE.sub(" ", text)
    return " ".join(text.split())
