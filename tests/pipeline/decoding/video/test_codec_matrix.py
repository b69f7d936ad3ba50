"""Every codec that PyAV's wheel encodes, in every container: stored as PyAV decodes it, or rejected
by both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError, decode
from intertitle.pipeline.decoding.sampling import Every, Uniform
from tests.pipeline.decoding.video.films import WIDTH, each_with_pyav, write

LENGTHS = (1, 3, 7, 8, 30)

# FFmpeg's muxers by the suffix of their files.
CONTAINERS = {
    "mp4": "mp4",
    "mov": "mov",
    "3gp": "3gp",
    "ismv": "ismv",
    "mkv": "matroska",
    "webm": "webm",
    "avi": "avi",
    "wmv": "asf",
    "flv": "flv",
    "ogv": "ogg",
    "ivf": "ivf",
    "mxf": "mxf",
    "mpg": "mpeg",
    "vob": "vob",
    "ts": "mpegts",
    "m1v": "mpeg1video",
    "m2v": "mpeg2video",
}

# They encode nothing, or only where there is other hardware.
_NO_ENCODERS = frozenset({"vnull", "wrapped_avframe", "alias_pix", "a64multi", "a64multi5", "av1"})
_HARDWARE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m")
_USUAL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv422p10le", "rgb24", "rgb8")
_REORDER = frozenset({"mpeg4", "mpeg1video", "mpeg2video", "libx264", "libx265"})
_SIZES = {"dvvideo": (720, 576), "dnxhd": (1280, 720)}
_FAST = {"deadline": "realtime", "cpu-used": "8"}
_OPTIONS = {
    "dnxhd": {"b": "90M"},
    "libx264": {"preset": "veryfast"},
    "libx265": {"x265-params": "log-level=none:keyint=12:min-keyint=12"},
    "libsvtav1": {"preset": "12"},
    "libvpx": _FAST,
    "libvpx-vp9": _FAST,
}


class Case(NamedTuple):
    """One file of the matrix; `b_frames` is None where the codec has none."""

    codec: str
    suffix: str
    num_frames: int
    b_frames: int | None
    tagged: bool


def write_case(case: Case, folder: Path) -> Path | None:
    """The file, or None where FFmpeg can't write it."""
    path = folder / f"{'-'.join(map(str, case))}.{case.suffix}"
    formats = [f.name for f in av.Codec(case.codec, "w").video_formats or ()] or ["yuv420p"]
    pix_fmt = next((name for name in _USUAL_FORMATS if name in formats), formats[0])
    options = dict(_OPTIONS.get(case.codec, {}))
    if case.b_frames is not None:
        options["bf"] = str(case.b_frames)
        if case.codec == "libx265":
            options["x265-params"] += f":bframes={case.b_frames}"
    size = _SIZES.get(case.codec, (WIDTH, 144))
    container = CONTAINERS[case.suffix]
    try:
        write(path, case.codec, pix_fmt, options, size, 12, case.num_frames, container, case.tagged)
    except (ValueError, av.FFmpegError):
        path.unlink(missing_ok=True)
        return None
    return path


def verdict(path: Path) -> str:
    """What became of a file: "stored", "rejected by both", or what is wrong."""
    try:
        seen = list(each_with_pyav(path, WIDTH))
    except (ValueError, IndexError, av.FFmpegError):
        seen = []
    item = Item("a", str(path), "video")
    try:
        everything, one, eight = (
            decode(path, item, rule, WIDTH) for rule in (Every(1), Uniform(1), Uniform(8))
        )
    except DecodeError as error:
        return f"rejected alone: {error.message}" if seen else "rejected by both"
    if not seen:
        return "stored alone"
    if any(frames.degraded for frames in (everything, one, eight)):
        return f"degraded: {everything.degraded}"
    if len(everything.pixels) != len(seen):
        return f"{len(everything.pixels)} frames instead of {len(seen)}"
    times = np.array([time for time, _ in seen if time is not None])
    if len(times) == len(seen) and (np.diff(times) > 0).all():
        # Where a file's own times go back and forth there is nothing to compare with.
        apart_s = np.abs(times - times[0] - everything.times_s).max()
        if apart_s > 0.002:
            return f"times {apart_s} s apart"
    pictures = np.stack([pixels for _, pixels in seen]).astype(int)
    for frames in (everything, one, eight):
        indices = np.searchsorted(everything.times_s, frames.times_s)
        apart = np.abs(frames.pixels - pictures[indices]).max()
        if apart > 1:
            return f"pixels {apart} apart, of {len(frames.pixels)} frames"
    return "stored"


@pytest.mark.parametrize(
    ("codec", "suffix", "b_frames"),
    [
        ("libvpx", "webm", None),
        ("mpeg4", "avi", 0),
        ("mpeg4", "mp4", 0),
        ("mpeg4", "wmv", 2),
        ("h261", "avi", None),
        ("h263", "avi", None),
        ("h263", "3gp", None),
        ("libx264", "mxf", 2),
        ("mpeg1video", "m1v", 2),
        ("libx264", "wmv", 2),
        ("mpeg2video", "vob", 2),
        ("msmpeg4", "avi", None),
        ("flv", "flv", None),
        ("svq1", "mov", None),
        ("wmv2", "wmv", None),
        # Its frames bear EXIF.
        ("tiff", "mov", None),
        ("v308", "mov", None),
    ],
)
def test_short_and_long_files_of_codecs(
    codec: str, suffix: str, b_frames: int | None, tmp_path: Path
) -> None:
    for num_frames in LENGTHS:
        path = write_case(Case(codec, suffix, num_frames, b_frames, False), tmp_path)
        assert path is not None and verdict(path) == "stored", num_frames


def cases() -> Iterator[Case]:
    for codec in sorted(av.codecs_available):
        if codec in _NO_ENCODERS or codec.endswith(_HARDWARE):
            continue
        try:
            encoder = av.Codec(codec, "w")
        except ValueError:
            continue
        # Some encoders go by the name of the codec as well.
        if encoder.type != "video" or encoder.name != codec:
            continue
        for suffix in CONTAINERS:
            for num_frames in LENGTHS:
                for b_frames in (0, 2) if codec in _REORDER else (None,):
                    for tagged in (False, True):
                        yield Case(codec, suffix, num_frames, b_frames, tagged)


def _verdict_of(case: Case, folder: Path) -> tuple[Case, str]:
    path = write_case(case, folder)
    if path is None:
        return case, "can't be written"
    try:
        return case, verdict(path)
    finally:
        path.unlink()


@pytest.mark.chaos
def test_every_codec_in_every_container(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    ended = list(processes.map(partial(_verdict_of, folder=tmp_path), cases(), chunksize=16))
    counts = Counter(said for _, said in ended)
    wrong = [
        (case, said)
        for case, said in ended
        if said not in ("stored", "rejected by both", "can't be written")
    ]
    assert not wrong, f"{len(wrong)} of {counts}: {wrong[:20]}"
    assert counts["stored"] > 1000, counts
