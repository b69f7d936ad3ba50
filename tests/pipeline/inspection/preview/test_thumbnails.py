"""Items at a glance."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.inspection.preview.thumbnails import (
    HEIGHT,
    NUM_FRAMES,
    filmstrip,
    filmstrip_of,
)
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.pipeline.storage import failpoints


def test_a_clip_is_its_frames_in_order_and_an_image_itself(clips: Path, tmp_path: Path) -> None:
    item = Corpus(clips).items()[0]
    film = Image.open(io.BytesIO(filmstrip(ItemFile(item, str(clips)))))
    assert (film.format, film.size) == ("JPEG", (4 * 96 + 3 * 2, 96))
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "red.png")
    photo = Image.open(
        io.BytesIO(filmstrip(ItemFile(Item("red", "red.png", "image"), str(tmp_path))))
    )
    assert photo.size == (96, 96)
    assert np.allclose(np.asarray(photo), (200, 30, 30), atol=6)


def test_frames_that_are_there_are_drawn_as_if_they_were_decoded_for_it(clips: Path) -> None:
    source = ItemFile(Corpus(clips).items()[0], str(clips))
    limits = Limits(max_pixels=10**9)
    _, frames = decode_isolated(source, Uniform(NUM_FRAMES), 2 * HEIGHT, limits)
    assert filmstrip_of(frames) == filmstrip(source)
    rising = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 224, 224, 3), np.uint8)
    strip = np.asarray(Image.open(io.BytesIO(filmstrip_of(30 * rising))))
    assert [strip[40, 48 + n * 98, 0] for n in range(4)] == pytest.approx([30, 90, 150, 210], abs=4)
    still = Image.open(io.BytesIO(filmstrip_of(np.zeros((8, 224, 224, 3), np.uint8))))
    assert still.size == (HEIGHT, HEIGHT)


def test_an_item_that_is_damaged_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(DecodeError):
        filmstrip(ItemFile(Item("film", "film.mp4", "video"), str(tmp_path)))


def test_an_item_that_crashes_its_decoder_has_no_picture(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "decode=crash")
    with pytest.raises(DecodeError, match="died of SIGSEGV"):
        filmstrip(ItemFile(Corpus(clips).items()[0], str(clips)))
