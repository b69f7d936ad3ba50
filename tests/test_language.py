"""The check of the language finds what it should, and nothing in the project."""

from __future__ import annotations

from pathlib import Path

from tests.language import check_code, load_rules

CODE = '''
def f(path, told):
    """Read what is told.

    Args:
        path: of the file.
        told: number of lines.
    """
    some = 1  # nobody reads it
    return some
'''


def test_names_phrases_and_bare_prepositions_are_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(CODE)
    findings = [
        (finding.line, finding.message.split(" ")[0]) for finding in check_code(file, load_rules())
    ]
    assert sorted(findings) == [
        (2, "name"),
        (3, "'told'"),
        (6, "argument"),
        (7, "'told'"),
        (9, "'nobody'"),
        (9, "name"),
    ]
