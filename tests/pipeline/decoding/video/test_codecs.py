"""Every codec and container gives the pictures that a second decoder, PyAV, gives."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.sampling import Every, Uniform
from tests.pipeline.decoding.video.films import NUM_FRAMES, WIDTH, scene, with_pyav, write

X265 = "log-level=none:keyint=12:min-keyint=12"
VPX = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}
CASES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "h264": ("mp4", "libx264", {"preset": "medium"}, "yuv420p"),
    "h264 open": ("mkv", "libx264", {"x264-params": "open-gop=1:bframes=3:b-adapt=0"}, "yuv420p"),
    "h264 open, stream": ("ts", "libx264", {"x264-params": "open-gop=1:b-adapt=0"}, "yuv420p"),
    "h264 gradual": ("ts", "libx264", {"x264-params": "intra-refresh=1"}, "yuv420p"),
    "h264 interlaced": ("mp4", "libx264", {"x264-params": "interlaced=1"}, "yuv420p"),
    "h264 without times": ("avi", "libx264", {}, "yuv420p"),
    "h264 709": ("mp4", "libx264", {"x264-params": "colormatrix=bt709"}, "yuv420p"),
    "h264 709 full": (
        "mp4",
        "libx264",
        {"x264-params": "colormatrix=bt709:fullrange=on"},
        "yuv420p",
    ),
    "h264 601": ("mp4", "libx264", {"x264-params": "colormatrix=smpte170m"}, "yuv420p"),
    "h264 grey": ("mp4", "libx264", {}, "gray"),
    "hevc open": ("mp4", "libx265", {"x265-params": f"{X265}:open-gop=1"}, "yuv420p"),
    "hevc levels": ("ts", "libx265", {"x265-params": f"{X265}:temporal-layers=2"}, "yuv420p"),
    "hevc 10-bit PQ": (
        "mp4",
        "libx265",
        {"x265-params": f"{X265}:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
        "yuv420p10le",
    ),
    "hevc 10-bit HLG": (
        "mp4",
        "libx265",
        {"x265-params": f"{X265}:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"},
        "yuv420p10le",
    ),
    "vp8 hidden": ("webm", "libvpx", {**VPX, "auto-alt-ref": "1", "cpu-used": "16"}, "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", {**VPX, "auto-alt-ref": "1"}, "yuv420p"),
    "vp9 alpha": ("webm", "libvpx-vp9", {**VPX, "auto-alt-ref": "0"}, "yuva420p"),
    "av1": ("mp4", "libsvtav1", {"preset": "10"}, "yuv420p"),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2"}, "yuv420p"),
    "mpeg4 avi": ("avi", "mpeg4", {"bf": "2"}, "yuv420p"),
    "mpeg2": ("mpg", "mpeg2video", {"bf": "2"}, "yuv420p"),
    "mpeg1": ("mpg", "mpeg1video", {}, "yuv420p"),
    "mjpeg": ("avi", "mjpeg", {}, "yuvj420p"),
    "prores": ("mov", "prores_ks", {}, "yuv422p10le"),
    "png alpha": ("mov", "png", {}, "rgba"),
    "ffv1": ("mkv", "ffv1", {}, "yuv444p"),
    "wmv": ("asf", "wmv2", {}, "yuv420p"),
    "flash": ("flv", "flv", {}, "yuv420p"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_codec_gives_the_pictures_that_another_decoder_gives(case: str, tmp_path: Path) -> None:
    suffix, codec, options, pix_fmt = CASES[case]
    path = write(tmp_path / f"a.{suffix}", codec, pix_fmt, options)
    item = Item("a", str(path), "video")
    everything = with_pyav(path, WIDTH)
    assert len(everything) == NUM_FRAMES
    for rule in (Every(1), Every(7), Uniform(3)):
        frames = decode(path, item, rule, WIDTH)
        assert frames.degraded is None
        indices = np.rint(frames.times_s * 25).astype(int)
        difference = np.abs(frames.pixels.astype(int) - everything[indices])
        assert difference.max() <= 1, (rule, difference.mean((1, 2, 3)))
    # And they are the pictures that went in.
    apart = np.abs(frames.pixels.astype(int) - with_pyav_scene()[indices]).mean()
    assert apart < 16 or any(word in case for word in ("HLG", "PQ", "grey"))


@cache
def with_pyav_scene() -> np.ndarray:
    """The scene itself, squeezed as a decoder does; [T, 176, 176, 3]."""
    frames = [av.VideoFrame.from_ndarray(picture) for picture in scene()]
    return np.stack([f.reformat(WIDTH, WIDTH, "rgb24").to_ndarray() for f in frames]).astype(int)


def test_an_encoder_does_not_leave_its_priority_to_the_tests(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    write(tmp_path / "a.ivf", "libsvtav1", options={"preset": "12"}, num_frames=2)
    assert os.sched_getscheduler(0) == before != os.SCHED_FIFO


@pytest.mark.parametrize("gop", [1, 40])
@pytest.mark.parametrize("size", [20, 32, 48, 96, 100, 144, 224])
def test_every_key_spacing_at_every_size(gop: int, size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", gop=gop)
    frames = decode(path, Item("a", str(path), "video"), Uniform(6), size)
    indices = np.rint(frames.times_s * 25).astype(int)
    difference = np.abs(frames.pixels.astype(int) - with_pyav(path, size)[indices])
    # Sizes that decord gets wrong are made from larger ones: softer, but the same picture.
    assert difference.max() == 0 if size >= 64 else difference.mean() < 20


@pytest.mark.parametrize("size", [96, 144, 224])
@pytest.mark.parametrize("case", ["h264 without times", "mpeg4 avi", "mjpeg", "vp8 hidden"])
def test_frames_that_are_counted_at_every_size(case: str, size: int, tmp_path: Path) -> None:
    suffix, codec, options, pix_fmt = CASES[case]
    path = write(tmp_path / f"a.{suffix}", codec, pix_fmt, options, num_frames=20)
    frames = decode(path, Item("a", str(path), "video"), Uniform(4), size)
    indices = np.rint(frames.times_s * 25).astype(int)
    assert np.abs(frames.pixels.astype(int) - with_pyav(path, size)[indices]).max() <= 1
    assert frames.degraded is None


@pytest.mark.parametrize("size", [(2, 2), (16, 18), (34, 62), (177, 145), (1, 1), (3, 501)])
def test_odd_and_tiny_pictures(size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", "yuv444p", size=size, num_frames=12)
    frames = decode(path, Item("a", str(path), "video"), Every(1), 64)
    assert np.abs(frames.pixels.astype(int) - with_pyav(path, 64)).max() == 0


def test_pictures_that_have_the_size_already_are_not_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", size=(160, 160))
    with av.open(path) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = decode(path, Item("a", str(path), "video"), Every(1), 160)
    assert (frames.pixels == np.stack(expected)).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_film_is_shown_upright(
    degrees: int, coloured: bool, mirrored: bool, tmp_path: Path
) -> None:
    options = {"x264-params": "colormatrix=bt709"} if coloured else {}
    path = write(tmp_path / "a.mp4", "libx264", options=options)
    with av.open(path) as source, av.open(tmp_path / "b.mp4", "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees, hflip=mirrored)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    lying = decode(path, Item("a", "a", "video"), Uniform(3), 176).pixels
    upright = decode(tmp_path / "b.mp4", Item("a", "a", "video"), Uniform(3), 176).pixels
    expected = np.rot90(lying, degrees // 90, (1, 2))
    expected = expected[:, :, ::-1] if mirrored else expected
    assert (upright == expected).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_film_whose_frames_have_exif_is_shown_upright(degrees: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", "tiff", "rgb24", num_frames=3)
    with av.open(path) as source, av.open(tmp_path / "b.mov", "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    lying = decode(path, Item("a", "a", "video"), Uniform(3), 176).pixels
    upright = decode(tmp_path / "b.mov", Item("a", "a", "video"), Uniform(3), 176).pixels
    assert (upright == np.rot90(lying, degrees // 90, (1, 2))).all()
