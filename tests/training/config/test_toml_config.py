"""The line that a mistake in TOML ends in."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, model_validator

from intertitle.pipeline.errors import UserError
from intertitle.training.config.models import PositiveInt, Section
from intertitle.training.config.toml_config import parse_toml, validate


def even(number: int) -> int:
    if number % 2:
        raise ValueError("allowed: even numbers")
    return number


class Flat(Section):
    kind: Literal["flat", "even"]
    sides: Annotated[int, AfterValidator(even)] = 4


class Hole(Section):
    width: PositiveInt

    @model_validator(mode="after")
    def _is_small(self) -> Hole:
        if self.width > 9:
            raise ValueError("width 10, allowed: less")
        return self


class Part(Section):
    shape: Flat
    hole: Hole | None = None
    marks: list[PositiveInt] = Field(default_factory=list)


class Whole(Section):
    name: str = ""
    first: Part
    more: list[Part] = Field(default_factory=list)
    named: dict[str, Hole] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_name(self) -> Whole:
        if self.name == "none":
            raise ValueError("allowed: a real name")
        return self


GOOD = """
name = "a"
[first.shape]
kind = "flat"
[[more]]
shape = { kind = "flat", sides = 2 }
hole = { width = 2 }
marks = [1, 2]
[named.x]
width = 3
"""


def read(text: str) -> Whole:
    return validate(Whole, parse_toml(text.encode(), "a.toml"), "a.toml")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"a"', "1", "name: 1: Input should be a valid string"),
        ('"a"', '"none"', "allowed: a real name"),
        ("name =", "nam =", "nam: 'a': no such field, allowed: name, first, more, named"),
        ("[first.shape]", "[second.shape]", "first: Field required"),
        ('"flat"\n', '"square"\n', "first.shape.kind: 'square': Input should be 'flat' or 'even'"),
        ('kind = "flat"\n', "sides = 2\n", "first.shape.kind: Field required"),
        (
            '"flat"\n',
            '"flat"\nradius = 1\n',
            "first.shape.radius: 1: no such field, allowed: kind, sides",
        ),
        ("sides = 2", "sides = 3", "more.0.shape.sides: 3: allowed: even numbers"),
        ('"flat", sides = 2', '"even", sides = 3', "more.0.shape.sides: 3: allowed: even numbers"),
        ("[1, 2]", "[1, 0]", "more.0.marks.1: 0: Input should be greater than or equal to 1"),
        ("[1, 2]", "7", "more.0.marks: 7: Input should be a valid list"),
        ("{ width = 2 }", "{ wide = 2 }", "more.0.hole.width: Field required"),
        (
            "{ width = 2 }",
            "{ width = 2, a = 1 }",
            "more.0.hole.a: 1: no such field, allowed: width",
        ),
        ("{ width = 2 }", "{ width = 10 }", "more.0.hole: width 10, allowed: less"),
        ("width = 3", "width = 3\nhigh = 1", "named.x.high: 1: no such field, allowed: width"),
        ("width = 3", "width = 3\n[named.x.a]\nb = 1", "named.x.a: no such field, allowed: width"),
        ("width = 3", 'width = "w"', "named.x.width: 'w': Input should be a valid integer"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(
    old: str, new: str, line: str
) -> None:
    assert read(GOOD).more[0].marks == [1, 2]
    assert GOOD.count(old) == 1
    with pytest.raises(UserError) as refused:
        read(GOOD.replace(old, new))
    assert str(refused.value).startswith(f"a.toml: {line}")


def test_what_is_not_toml_is_named() -> None:
    with pytest.raises(UserError, match=r"^a\.toml: not TOML: byte 5 is not UTF-8$"):
        parse_toml(b"a = '\xff'", "a.toml")
    with pytest.raises(UserError, match=r"^a\.toml: not TOML: Expected '=' .*line 1"):
        parse_toml(b"a\n", "a.toml")
