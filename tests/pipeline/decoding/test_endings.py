"""The endings that are accepted are those of what can be decoded."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding import containers
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.endings import VIDEO_ENDINGS, ending_for
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.importers.kinds import kind_of


def test_every_container_that_is_known_has_endings() -> None:
    assert VIDEO_ENDINGS.keys() == {*(name for name, _, _ in containers._MAGIC), "mpegts"}


@pytest.mark.parametrize(
    ("name", "format", "codec"),
    [
        ("camcorder.MTS", "mpegts", "libx264"),
        ("tv.ts", "mpegts", "libx264"),
        ("old.wmv", "asf", "wmv2"),
        ("web.flv", "flv", "flv"),
        ("phone.3gp", "3gp", "libx264"),
        ("clip.qt", "mov", "libx264"),
        ("dvd.vob", "vob", "mpeg2video"),
    ],
)
def test_usual_endings_of_containers_that_decode(
    name: str, format: str, codec: str, tmp_path: Path
) -> None:
    with av.open(tmp_path / name, "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for grey in range(20):
            pixels = np.full((64, 64, 3), 10 * grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    assert kind_of(tmp_path / name) == "video"
    assert len(decode(tmp_path / name, Item("a", "a", "video"), Uniform(4), 64).pixels) == 4


@pytest.mark.parametrize(
    ("head", "ending"),
    [
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avif", ".avif"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42", ".mp4"),
        (b"\x1a\x45\xdf\xa3", ".mkv"),
    ],
)
def test_the_ending_that_fits_a_content(head: bytes, ending: str) -> None:
    assert ending_for(head) == ending
    with pytest.raises(ProbeError, match="playlist"):
        ending_for(b"#EXTM3U\n")
