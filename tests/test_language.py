"""The check of the language finds what it should, and nothing in the project."""

from __future__ import annotations

from pathlib import Path

from tests.language import check_code, check_template, load_rules

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


TEMPLATE = """
{% macro cell(told) %}{{ told }}{% endmacro %}
{% for one in rows %}<p>
heard: {{ one }}</p>{% endfor %}
<script>const some = 1;</script>
"""


def test_names_and_phrases_of_a_template_are_found(tmp_path: Path) -> None:
    file = tmp_path / "page.jinja"
    file.write_text(TEMPLATE)
    findings = [
        (finding.line, finding.message.split(" ")[0])
        for finding in check_template(file, load_rules())
    ]
    assert sorted(findings) == [
        (2, "'told'"),
        (2, "'told'"),
        (2, "name"),
        (3, "name"),
        (4, "'heard'"),
        (5, "name"),
    ]
