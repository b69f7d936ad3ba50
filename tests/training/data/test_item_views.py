"""Thumbnails of items."""

from pathlib import Path

from PIL import Image

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.training.data.item_views import thumbnails_of


def test_items_that_can_be_read_have_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 30, 30)).save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = [Item(key, f"{key}.png", "image") for key in ("red", "broken", "gone", "other")]
    write_corpus(tmp_path, items, [Example("1", "val", "red", None, ("red",))])
    pictures = thumbnails_of(Corpus(tmp_path), ["red", "broken", "gone", "never heard of"])
    assert pictures.keys() == {"red"}
    assert pictures["red"].startswith(b"\xff\xd8\xff")
