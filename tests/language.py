"""Check that code and documents are written in plain technical English.

Names, docstrings, comments and texts in the code and the page templates, and the documents, are
compared with the words and phrases in `language.toml`; a documented argument must not begin with a
bare preposition.

Run it with `python -m tests.language`; it prints a line a finding and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, nodes

ROOT = Path(__file__).parents[1]
CODE = ("pipeline", "training", "jobs")
DOCUMENTS = ("*.md", "docs/**/*.md", "infra/**/*.md")
_ENTRY = re.compile(r"^\s+\*{0,2}(\w+(?:, \w+)*): (.*)$")
_SCRIPT_NAME = re.compile(r"\b(?:const|let|function)\s+(\w+)")
_SECTION = re.compile(r"^\s*(Args|Attributes|Raises|Returns|Yields|Example):\s*$")


@dataclass(frozen=True, slots=True)
class Rules:
    """The words and phrases that are not used.

    Attributes:
        names: identifiers.
        phrases: regular expression of words and phrases in prose.
        prepositions: words that the description of an argument does not begin with.
        allowed: regular expression of quotations that are removed from a line of prose first.
    """

    names: frozenset[str]
    phrases: re.Pattern[str]
    prepositions: frozenset[str]
    allowed: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A place that breaks a rule.

    Attributes:
        path: file below the root of the project.
        line: line number, from 1.
        message: the word and the rule, in one line.
    """

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def load_rules() -> Rules:
    """Read `language.toml`."""
    data = tomllib.loads((ROOT / "tests" / "language.toml").read_text("utf-8"))
    return Rules(
        frozenset(data["names"]),
        re.compile(rf"\b(?:{'|'.join(data['phrases'])})\b", re.IGNORECASE),
        frozenset(data["prepositions"]),
        re.compile("|".join(map(re.escape, data["allowed"]))),
    )


def check_code(path: Path, rules: Rules) -> Iterator[Finding]:
    """Find what breaks the rules in a Python file."""
    text = path.read_text("utf-8")
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for line, name in _defined_names(ast.parse(text)):
        if name in rules.names:
            yield Finding(place, line, f"name {name!r} hides what it holds")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if (
            token.type == tokenize.COMMENT
            or token.type == tokenize.STRING
            or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1)
        ):
            yield from _check_prose(place, token.start[0], token.string, rules)
    for line, argument, description in _documented_arguments(ast.parse(text)):
        first = description.split(maxsplit=1)[0].lower().strip(",;:") if description else ""
        if first in rules.prepositions:
            yield Finding(place, line, f"argument {argument!r} begins with {first!r}, not a noun")


def check_template(path: Path, rules: Rules) -> Iterator[Finding]:
    """Find what breaks the rules in a Jinja template: its names, those of its script, its text."""
    text = path.read_text("utf-8")
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for line, name in (*_template_names(text), *_script_names(text)):
        if name in rules.names:
            yield Finding(place, line, f"name {name!r} hides what it holds")
    yield from _check_prose(place, 1, text, rules)


def check_document(path: Path, rules: Rules) -> Iterator[Finding]:
    """Find what breaks the rules in a document."""
    yield from _check_prose(path.relative_to(ROOT), 1, path.read_text("utf-8"), rules)


def _check_prose(path: Path, line: int, text: str, rules: Rules) -> Iterator[Finding]:
    for number, part in enumerate(text.split("\n")):
        for match in rules.phrases.finditer(rules.allowed.sub("", part)):
            yield Finding(path, line + number, f"{match[0]!r} is not plain technical English")


def _defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names of functions, classes, arguments and variables where they are defined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _template_names(text: str) -> Iterator[tuple[int, str]]:
    """Names of macros, arguments and variables where a template defines them."""
    for node in Environment().parse(text).find_all((nodes.Macro, nodes.Name)):
        if isinstance(node, nodes.Macro) or node.ctx in ("store", "param"):
            yield node.lineno, node.name


def _script_names(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        for match in _SCRIPT_NAME.finditer(line):
            yield number, match[1]


def _documented_arguments(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Each argument and attribute that a docstring describes: line, name, description."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented) or ast.get_docstring(node) is None:
            continue
        first = node.body[0]
        assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        section, indent = "", 0
        for number, line in enumerate(str(first.value.value).split("\n")):
            if match := _SECTION.match(line):
                section, indent = match[1], len(line) - len(line.lstrip())
            elif (
                section in ("Args", "Attributes")
                and (match := _ENTRY.match(line))
                and len(line) - len(line.lstrip()) == indent + 4
            ):
                yield first.lineno + number, match[1], match[2]


def main() -> int:
    """Check the whole project, print what was found, and return the exit code."""
    rules = load_rules()
    findings = [
        *(
            f
            for top in CODE
            for p in sorted((ROOT / top).rglob("*.py"))
            for f in check_code(p, rules)
        ),
        *(
            f
            for top in CODE
            for p in sorted((ROOT / top).rglob("*.jinja"))
            for f in check_template(p, rules)
        ),
        *(
            f
            for kind in DOCUMENTS
            for p in sorted(ROOT.glob(kind))
            for f in check_document(p, rules)
        ),
    ]
    for finding in findings:
        print(finding)
    print(f"language: {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
