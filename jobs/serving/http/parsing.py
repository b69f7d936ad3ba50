"""Bodies of requests: JSON with files in base64 or by URL, or multipart forms."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from intertitle.jobs.serving.errors import ApiError, from_validation
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.schemas import MAX_INPUTS, Input, Options, PredictRequest

Fetch = Callable[[str, str], Awaitable[bytes]]

# Fields of a form with inputs; all others are options.
_FILES, _TEXTS = ("file", "files"), ("text", "question")
# Content types in the description of the interface.
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Images and videos.",
                        },
                        "text": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Texts; or questions: one about all files, or several "
                            "about one file, or one for each file.",
                        },
                    },
                    "additionalProperties": {"type": "string"},
                    "description": "Further fields are the options of the JSON body.",
                }
            },
        },
    }
}


async def read_queries(request: Request, fetch: Fetch, max_hypotheses: int) -> list[Query]:
    """Read the inputs of a request.

    Args:
        request: request with a body of JSON or a form.
        fetch: function that fetches a URL, called with the URL and the name of its field.
        max_hypotheses: maximum number of inputs times the larger of beam and nbest.

    Raises:
        ApiError: the body is invalid, or a URL cannot be fetched.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, max_hypotheses)
    if kind not in ("application/json", ""):
        raise ApiError(415, "Content-Type", kind, "application/json, multipart/form-data")
    try:
        body = PredictRequest.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise from_validation(dict(error.errors()[0])) from error
    options = Options(**{name: getattr(body, name) for name in Options.model_fields})
    # A language model reads nothing: it has one input without content.
    inputs = body.inputs or (Input(),)
    _check_hypotheses(len(inputs), options, max_hypotheses)
    return [
        Query(
            item.name or item.url or "",
            item.text,
            await read_file(item, f"inputs.{n}.", fetch),
            n,
            options,
        )
        for n, item in enumerate(inputs)
    ]


async def read_file(item: Input, where: str, fetch: Fetch) -> bytes | None:
    """Return the content of the file of an input, or None if it has none.

    Args:
        item: input.
        where: path of its fields in the request.
        fetch: function that fetches a URL, see `read_queries`.

    Raises:
        ApiError: the file is not base64, or cannot be fetched.
    """
    if item.data is not None and item.url is not None:
        raise ApiError(422, f"{where}data", "data and url", "one of the two")
    if item.url is not None:
        return await fetch(item.url, f"{where}url")
    if item.data is None:
        return None
    try:
        return base64.b64decode(item.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(422, f"{where}data", item.data[:20], "base64") from error


async def _read_form(request: Request, max_hypotheses: int) -> list[Query]:
    # Parts of files are spooled to disk above a size, and deleted with the form.
    async with request.form(max_files=MAX_INPUTS, max_fields=MAX_INPUTS + 32) as form:
        options = _form_options(form)
        files = [
            (part.filename or "", await part.read())
            for field in _FILES
            for part in form.getlist(field)
            if isinstance(part, UploadFile)
        ]
        texts = [part for field in _TEXTS for part in form.getlist(field) if isinstance(part, str)]
    for n, text in enumerate(texts):
        _check_text(text, n)
    _check_hypotheses(max(len(files), len(texts)), options, max_hypotheses)
    if not files:
        return [Query("", text, None, n, options) for n, text in enumerate(texts or [None])]
    if len(texts) > 1 and len(files) == 1:
        files *= len(texts)
    elif len(texts) <= 1:
        texts *= len(files)
    if texts and len(texts) != len(files):
        allowed = f"1, or one for each of the {len(files)} files"
        raise ApiError(422, "text", f"{len(texts)} texts", allowed)
    return [
        Query(name, texts[n] if texts else None, data, n, options)
        for n, (name, data) in enumerate(files)
    ]


def _check_hypotheses(num_inputs: int, options: Options, max_hypotheses: int) -> None:
    width = max(options.beam or 1, options.nbest)
    if num_inputs * width > max_hypotheses:
        allowed = f"inputs times the larger of beam and nbest: at most {max_hypotheses}"
        raise ApiError(422, "inputs", f"{num_inputs} times {width}", allowed)


def _check_text(text: str, number: int) -> None:
    try:
        Input(text=text)
    except ValidationError as error:
        raise from_validation({**error.errors()[0], "loc": ("inputs", number, "text")}) from error


def _form_options(form: FormData) -> Options:
    values: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in (*_FILES, *_TEXTS):
            if name in _FILES and not isinstance(value, UploadFile):
                raise ApiError(422, name, str(value), "a file with a file name")
            continue
        if isinstance(value, UploadFile):
            raise ApiError(422, name, value.filename or "", f"files in {' or '.join(_FILES)}")
        values[name] = value
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        raise from_validation(dict(error.errors()[0])) from error
