"""Validation of TOML files, with error messages of one line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from intertitle.pipeline.errors import UserError

S = TypeVar("S", bound=BaseModel)


def parse_toml(data: bytes, where: object) -> dict[str, Any]:
    """Parse the content of a TOML file.

    Args:
        data: content of the file.
        where: origin of the content, which the error message begins with.

    Raises:
        UserError: the content is not TOML.
    """
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not TOML: byte {error.start} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: not TOML: {error}") from error


def validate(
    section: type[S], tree: Mapping[str, Any], where: object, path: Sequence[str] = ()
) -> S:
    """Validate nested plain values as a section.

    Args:
        section: class of the section.
        tree: fields of the section.
        where: origin of the values, which the error message begins with; empty for none.
        path: names of the sections that this one is in.

    Raises:
        UserError: a value is not allowed; the message is one line that names the origin, the field,
            the value and what is allowed.
    """
    origin = f"{where}: " if where else ""
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        message = _describe(section, error.errors()[0], path)
        raise UserError(f"{origin}{message}") from error
    except UserError as error:
        # From a section within this one whose class depends on a field.
        raise UserError(f"{origin}{error}") from error


def _describe(section: type[BaseModel], error: ErrorDetails, within: Sequence[str]) -> str:
    """Return the field, the value and the message of an error."""
    path, owner = _resolve(section, error["loc"])
    path = [*within, *path]
    value, message = error["input"], error["msg"]
    match error["type"]:
        case "extra_forbidden":
            message = f"no such field, allowed: {', '.join(owner.model_fields)}"
        case "value_error":
            message = str(error["ctx"]["error"])
    if path and error["type"] != "missing" and not isinstance(value, Mapping | BaseModel):
        message = f"{value!r}: {message}"
    return f"{'.'.join(path)}: {message}" if path else message


def _resolve(
    section: type[BaseModel], location: Sequence[str | int]
) -> tuple[list[str], type[BaseModel]]:
    """Return the path of a field and the section that it belongs to."""
    path: list[str] = []
    owner = section
    annotation: Any = section
    for name in map(str, location):
        kinds = _sections(annotation)
        path.append(name)
        if kinds:
            (owner,) = kinds
            field = owner.model_fields.get(name)
            annotation = field.annotation if field else None
        else:
            *_, annotation = get_args(annotation) or (None,)
    return path, owner


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the section of an annotation, or the sections of a union; of a container none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (list, dict):
        return []
    return [kind for part in get_args(annotation) for kind in _sections(part)]
