"""What a table's file may say, and those that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.jobs.reproduce.config import load_table, table_names
from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import change_search, load_recipe
from intertitle.training.models.check_recipe import check_recipe

GOOD = """
title = "t"
metrics = ["sacrebleu"]
[corpora.c]
format = "text"
[runs.r]
recipe = "char_lm"
corpus = "c"
[[rows]]
label = "l"
runs = "r"
"""


@pytest.mark.parametrize("name", table_names())
def test_the_project_s_tables_name_what_there_is(name: str) -> None:
    config = load_table(name)
    for runs in config.runs.values():
        check_recipe(load_recipe(runs.recipe, runs.set))
    for row in config.rows:
        change_search(load_recipe(config.runs[row.runs].recipe), row.search)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ('runs = "r"', 'runs = "s"', "runs 's', allowed: r"),
        ('corpus = "c"', 'corpus = "d"', "corpus 'd', allowed: c"),
        ('runs = "r"', 'runs = "r"\ntogether = 2', "row 'l': together 2 of 1 runs"),
        (
            'runs = "r"',
            'runs = "r"\nsearch = { beam_size = 2 }\nrescoring = { runs = "r" }',
            "row 'l': rescoring, allowed: without search and together",
        ),
        (
            'corpus = "c"',
            'corpus = "c"\nseeds = [1, 2]\n[[rows]]\nlabel = "m"\nruns = "r"\ntogether = 2\n'
            'rescoring = { runs = "r" }',
            "row 'm': rescoring, allowed: without search and together",
        ),
        ('corpus = "c"', 'corpus = "c"\nseeds = [1, 1]', "runs.r.seeds: [1, 1]: "),
        ('corpus = "c"', 'corpus = "c"\ninit_from = "r"', "runs 'r': init_from 'r', which begins"),
        ('runs = "r"', 'runs = "r"\nsearch = { beam_sizes = 2 }', "row 'l': char_lm: search.beam"),
        ('["sacrebleu"]', '["bleu"]', "metrics.0: 'bleu': "),
        ('label = "l"', "", "rows.0.label: Field required"),
        ("title =", "title", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, was: str, becomes: str, told: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(GOOD)
    load_table(str(file))
    file.write_text(GOOD.replace(was, becomes))
    with pytest.raises(UserError, match=r"t\.toml: ") as refused:
        load_table(str(file))
    assert told in str(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(UserError, match=r"t\.toml: not TOML: "):
        load_table(str(tmp_path / "t.toml"))


def test_no_such_table() -> None:
    with pytest.raises(UserError, match=r"table: 'x', allowed: captions, .*translation"):
        load_table("x")
