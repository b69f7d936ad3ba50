"""Values of cells: texts, lists of texts, and times."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import format_value

# Fields that hold the text of an answer or caption that is an object, as in VQA v2 or COCO.
_TEXT_FIELDS = ("answer", "caption", "raw", "text")
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")


def texts_of(value: object, where: str) -> list[str]:
    """Return the texts in a cell: none, one, or those of a list.

    A list in JSON or Python notation is a list, as in a CSV file.

    Raises:
        UserError: the value is something else.
    """
    if isinstance(value, list | tuple):
        return [text for element in value for text in texts_of(element, where)]
    if isinstance(value, dict):
        for field in _TEXT_FIELDS:
            if field in value:
                return texts_of(value[field], where)
    if isinstance(value, str):
        elements = _listed(value)
        return [value] if elements is None else texts_of(elements, where)
    return _scalar(value, where)


def text_of(value: object, where: str) -> str:
    """Return the text in a cell, empty if it has no value.

    Raises:
        UserError: the value is a list or something else.
    """
    if isinstance(value, str):
        return value
    return "".join(_scalar(value, where))


def seconds_of(value: object, where: str) -> float | None:
    """Return the time in a cell in seconds, or None if it is empty.

    Raises:
        UserError: it is not a number of seconds, m:ss or h:mm:ss.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = value.strip() if isinstance(value, str) else value
    if text == "":
        return None
    if isinstance(text, int | float) and not isinstance(text, bool):
        if 0 <= text < math.inf:
            return float(text)
    elif isinstance(text, str) and (match := _TIME.fullmatch(text)):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    raise UserError(f"{where}: {format_value(value)}, allowed: seconds, m:ss or h:mm:ss")


def _scalar(value: object, where: str) -> list[str]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, str | int | float):
        return [str(value)]
    raise UserError(f"{where}: {format_value(value)}, allowed: text, a number or a list of them")


def _listed(text: str) -> list[Any] | None:
    """Parse a list of texts or numbers in JSON or Python notation; None for any other text."""
    if not (text.startswith("[") and text.rstrip().endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return _without_empty(value) if isinstance(value, list) else None
    return None


def _without_empty(values: list[Any]) -> list[Any] | None:
    """Return a list's texts and numbers without null; None if it has other elements."""
    values = [value for value in values if value is not None]
    is_plain = all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values)
    return values if is_plain else None
