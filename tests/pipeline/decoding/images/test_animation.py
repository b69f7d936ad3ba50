"""An animation is sampled by time as a video, and is its first picture as an image."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline.corpus import Item, Kind
from intertitle.pipeline.decoding.decode import DecodeError, Frames, decode
from intertitle.pipeline.decoding.images.formats import HEAD_BYTES, is_animated, picture_format
from intertitle.pipeline.decoding.sampling import Every, Rate, Sampling, Uniform

COLOURS = [(250, 5, 5), (5, 250, 5), (5, 5, 250), (250, 250, 5), (5, 250, 250)]
PICTURES = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
FORMATS = ["GIF", "WEBP", "PNG", "AVIF"]
EXACT: dict[str, dict[str, object]] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}


def write(
    path: Path, format: str, durations_ms: list[int], pictures: list[Image.Image] = PICTURES
) -> Path:
    pictures[0].save(
        path,
        format,
        save_all=True,
        append_images=pictures[1:],
        duration=durations_ms,
        **EXACT.get(format, {}),
    )
    return path


def frames_of(
    path: Path, sampling: Sampling, kind: Kind = "video", size: int = 16, **segment: float
) -> Frames:
    return decode(path, Item("a", str(path), kind, **segment), sampling, size)


def colours_of(frames: Frames) -> list[int]:
    """Which of the colours each frame is nearest to."""
    means = frames.pixels.mean((1, 2))[:, None] - np.array(COLOURS)
    assert (np.abs(means).max(2).min(1) < 12).all()
    return [int(n) for n in np.abs(means).sum(2).argmin(1)]


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_sampled_by_time(format: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a", format, [100, 300, 100, 400, 100])
    every = frames_of(path, Every(1))
    assert colours_of(every) == [0, 1, 2, 3, 4]
    assert every.times_s == pytest.approx([0, 0.1, 0.4, 0.5, 0.9])
    assert every.degraded is None
    # Ten spans of a tenth of a second, each told by what is shown in its middle.
    rate = frames_of(path, Rate(10))
    assert colours_of(rate) == [0, 1, 1, 1, 2, 3, 3, 3, 3, 4]
    assert rate.repeats.tolist() == [False, False, True, True, False, False, *[True] * 3, False]
    part = frames_of(path, Uniform(2), start_s=0.4, end_s=0.6)
    assert colours_of(part) == [2, 3]


@pytest.mark.parametrize("format", FORMATS)
def test_as_an_image_it_is_its_first_picture(format: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a", format, [100] * 5)
    frames = frames_of(path, Uniform(8), "image")
    assert colours_of(frames) == [0] and frames.times_s.tolist() == [0]


@pytest.mark.parametrize("format", FORMATS)
def test_one_without_motion_is_a_video_of_one_frame(format: str, tmp_path: Path) -> None:
    PICTURES[2].save(tmp_path / "a", format, **EXACT.get(format, {}))
    frames = frames_of(tmp_path / "a", Uniform(3))
    assert colours_of(frames) == [2, 2, 2] and frames.repeats.tolist() == [False, True, True]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_what_claims_no_time_is_shown_for_a_tenth_of_a_second(format: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a", format, [0, 10, 20, 0, 10])
    starts = frames_of(path, Every(1)).times_s
    assert starts == pytest.approx([0, 0.1, 0.2, 0.22, 0.32])


@pytest.mark.parametrize("disposal", [1, 2, 3])
@pytest.mark.parametrize("format", ["GIF", "PNG"])
def test_parts_are_painted_on_what_was_there(format: str, disposal: int, tmp_path: Path) -> None:
    """A square that moves over nothing: left, or cleared, or what was there before it."""
    pictures = []
    for place in range(3):
        picture = Image.new("RGBA", (30, 10))
        picture.paste((200, 0, 0, 255), (10 * place, 0, 10 * place + 10, 10))
        pictures.append(picture)
    options = {"disposal": disposal, "blend": 1} if format == "PNG" else {"disposal": disposal}
    if format == "PNG":
        options["disposal"] = disposal - 1
    pictures[0].save(
        tmp_path / "a", format, save_all=True, append_images=pictures[1:], duration=100, **options
    )
    frames = frames_of(tmp_path / "a", Every(1), size=30)
    with Image.open(tmp_path / "a") as image:
        for place in range(3):
            image.seek(place)
            canvas = Image.new("RGBA", image.size, "white")
            canvas.alpha_composite(image.convert("RGBA"))
            expected = canvas.convert("RGB").resize((30, 30), Image.Resampling.BICUBIC)
            assert (frames.pixels[place] == np.asarray(expected)).all()
    assert (frames.pixels[2, :, 22:, 0] > 190).all() and (frames.pixels[2, :, 22:, 1] < 10).all()
    if disposal == 2:
        assert (frames.pixels[2, :, :18] > 245).all()


def test_the_picture_that_stands_for_a_png_is_no_part_of_it(tmp_path: Path) -> None:
    PICTURES[4].save(
        tmp_path / "a.png",
        save_all=True,
        append_images=PICTURES[:3],
        duration=100,
        default_image=True,
    )
    assert colours_of(frames_of(tmp_path / "a.png", Every(1))) == [0, 1, 2]
    assert colours_of(frames_of(tmp_path / "a.png", Every(1), "image")) == [4]


@pytest.mark.parametrize("format", ["GIF", "PNG"])
def test_one_cut_short_gives_what_is_there(format: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
    path = write(tmp_path / "a", format, [100] * 5, [Image.fromarray(pixels) for pixels in noise])
    whole = frames_of(path, Every(1))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    cut = frames_of(path, Every(1))
    assert cut.degraded is not None and cut.degraded.startswith("cut short")
    assert 2 <= len(cut.pixels) < 5
    assert (cut.pixels[:-1] == whole.pixels[: len(cut.pixels) - 1]).all()
    # Though the picture that is missing is not among those that are wanted.
    assert frames_of(path, Every(100)).degraded is not None
    path.write_bytes(data[:60])
    with pytest.raises(DecodeError) as refused:
        frames_of(path, Every(1))
    assert refused.value.error == "unreadable"


def test_its_canvas_is_limited_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "GIF", [100] * 5)
    with pytest.raises(DecodeError, match="40 x 30 pixels, allowed: 1199 in all"):
        decode(path, Item("a", "a", "video"), Every(1), 16, max_pixels=1199)


def test_the_head_of_a_file_tells_whether_it_moves(tmp_path: Path) -> None:
    for format in FORMATS:
        data = write(tmp_path / "a", format, [100] * 5).read_bytes()
        still = BytesIO()
        PICTURES[0].save(still, format)
        assert is_animated(data[:HEAD_BYTES]) and not is_animated(still.getvalue())
    # It is played once, so that nothing but its second picture tells.
    PICTURES[0].save(tmp_path / "once.gif", save_all=True, append_images=PICTURES[1:])
    assert is_animated((tmp_path / "once.gif").read_bytes())
    png = b"\x89PNG\r\n\x1a\n\xff\xff"
    for data in (b"", b"GIF89a", b"GIF89a" + bytes(8), b"RIFF1234WEBP", png):
        assert not is_animated(data)


def test_formats_that_share_their_first_bytes() -> None:
    assert picture_format(b"RIFF\x10\0\0\0WEBPVP8X") == "WEBP"
    assert picture_format(b"RIFF\x10\0\0\0AVI LIST") is None
    # The brand of AVIF or HEIF may be any in the list of the first box, and none behind it.
    for brand, format in ((b"avif", "AVIF"), (b"avis", "AVIF"), (b"heic", "HEIF")):
        box = b"\0\0\0\x1cftypmif1\0\0\0\0miaf" + brand + b"MiHB"
        assert picture_format(box) == format
        assert picture_format(box[:3] + b"\x14" + box[4:]) == picture_format(box[:20])
    assert picture_format(b"\0\0\0\x18ftypisom\0\0\0\0isommp42avif") is None


def test_a_webp_that_ends_before_it_says_that_it_moves_does_not() -> None:
    head = b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0"
    assert is_animated(head + b"\x02") and not is_animated(head + b"\x1d")
    assert not is_animated(head) and not is_animated(head[:18])
