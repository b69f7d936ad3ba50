"""Items at a glance."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline import failpoints
from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.preview.thumbnails import filmstrip


def test_a_clip_is_its_frames_in_order_and_an_image_itself(clips: Path, tmp_path: Path) -> None:
    item = Corpus(clips).items()[0]
    film = Image.open(io.BytesIO(filmstrip(ItemFile(item, str(clips)), 4, 96)))
    assert (film.format, film.size) == ("JPEG", (4 * 96 + 3 * 2, 96))
    one = Image.open(io.BytesIO(filmstrip(ItemFile(item, str(clips)), 1, 96)))
    assert one.size == (96, 96)
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "red.png")
    photo = Image.open(
        io.BytesIO(filmstrip(ItemFile(Item("red", "red.png", "image"), str(tmp_path)), 4, 96))
    )
    assert photo.size == (96, 96)
    assert np.allclose(np.asarray(photo), (200, 30, 30), atol=6)


def test_an_item_that_is_damaged_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(DecodeError):
        filmstrip(ItemFile(Item("film", "film.mp4", "video"), str(tmp_path)), 4, 96)


def test_an_item_that_crashes_its_decoder_has_no_picture(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "decode=crash")
    with pytest.raises(DecodeError, match="died of SIGSEGV"):
        filmstrip(ItemFile(Corpus(clips).items()[0], str(clips)), 4, 96)
