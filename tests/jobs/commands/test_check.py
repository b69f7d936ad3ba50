"""`intertitle check`: text, JSON, a page and a corpus without leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus


def test_a_corpus_is_checked_and_fixed(
    intertitle: Callable[..., Any], clips: Path, tmp_path: Path
) -> None:
    drawn = Corpus(clips)
    first, second, *_ = drawn.items()
    path = str(drawn.locate(first))
    items = [
        Item("a", path, "video"),
        Item("b", path, "video"),
        Item("c", str(drawn.locate(second)), "video"),
    ]
    splits = zip("abc", ("train", "test", "train"), strict=True)
    examples = [Example(key, split, key, None, (f"clip {key}",)) for key, split in splits]
    write_corpus(tmp_path / "corpus", items, examples)
    page, fixed = tmp_path / "check.html", tmp_path / "fixed"
    ended = intertitle("check", tmp_path / "corpus", "--page", page, "--fix-leaks", fixed, "--json")
    assert ended.code == 0, ended.err
    assert "identical files" in ended.out
    assert "test and train" in ended.out
    result = json.loads(ended.out.splitlines()[-1])
    (pair,) = result["duplicates"]["across_splits"]
    assert (pair["evidence"], pair["first"], pair["second"]) == ("identical", "a", "b")
    assert result["left_out"] == ["a"]
    assert [item.key for item in Corpus(fixed).items()] == ["b", "c"]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 2
    assert "http" not in html
    assert "no example of a split is in another one" in intertitle("check", fixed).out
    refused = intertitle("check", fixed, "--page", "page.pdf")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
