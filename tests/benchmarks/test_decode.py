"""Sixteen frames of a film: `decode` against other ways to get them, and the memory it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import av
import cv2
import decord
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.sampling import Uniform

ROUNDS = 5
SIZE = 224
FRAMES = 16


def write_film(path: Path, num_frames: int, spacing: int) -> None:
    """A slow pan, something that moves, and a camera's noise; 640 x 360, with B-frames."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:360, 0:1280]
    scene = np.stack([np.sin(x / 37) + np.cos(y / 23), np.sin((x + y) / 51), np.cos(y / 41)], -1)
    scene = (128 + 50 * scene).astype(np.int16)
    noise = [rng.normal(0, 6, (360, 640, 1)).astype(np.int16) for _ in range(16)]
    with av.open(path, "w") as container:
        options = {"preset": "medium", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.gop_size = spacing
        for index in range(num_frames):
            left = index * 3 % 640
            frame = (scene[:, left : left + 640] + noise[index % 16]).clip(0, 255).astype(np.uint8)
            row, column = 180 + int(120 * np.sin(index / 20)), 320 + int(200 * np.cos(index / 27))
            frame[row - 30 : row + 30, column - 30 : column + 30] = (255, index % 256, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))


def with_decord(path: Path, indices: list[int]) -> np.ndarray:
    reader = decord.VideoReader(str(path), width=SIZE, height=SIZE, num_threads=1)
    return reader.get_batch(indices).asnumpy()


def _square(picture: np.ndarray) -> np.ndarray:
    small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


def _capture(path: Path, threads: int) -> cv2.VideoCapture:
    options = [cv2.CAP_PROP_N_THREADS, threads] if threads else []
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)


def opencv_seeks(path: Path, indices: list[int], threads: int = 1) -> np.ndarray:
    capture, pictures = _capture(path, threads), []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        pictures.append(_square(capture.read()[1]))
    return np.stack(pictures)


def opencv_reads_on(path: Path, indices: list[int], threads: int = 1) -> np.ndarray:
    capture, pictures, wanted = _capture(path, threads), [], set(indices)
    for index in range(indices[-1] + 1):
        capture.grab()
        if index in wanted:
            pictures.append(_square(capture.retrieve()[1]))
    return np.stack(pictures)


def _pyav_stream(container: InputContainer, threads: int) -> VideoStream:
    stream = container.streams.video[0]
    if threads:
        stream.thread_count = threads
    else:
        # As PyAV's cookbook recommends: threads for several frames, not for the slices of one.
        stream.thread_type = "AUTO"
    return stream


def _pyav_square(frame: av.VideoFrame) -> np.ndarray:
    return frame.reformat(SIZE, SIZE, "rgb24", interpolation="BICUBIC").to_ndarray()


def pyav_reads_on(path: Path, indices: list[int], threads: int = 1) -> np.ndarray:
    """One pass over all frames up to the last one, as in the examples of Transformers."""
    pictures, wanted = [], set(indices)
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(_pyav_stream(container, threads))):
            if index in wanted:
                pictures.append(_pyav_square(frame))
            if index == indices[-1]:
                break
    return np.stack(pictures)


def pyav_seeks_ahead(path: Path, indices: list[int], threads: int = 1) -> np.ndarray:
    """One pass that seeks where a key frame lies between two frames, for which PyAV has
    `index_entries` (https://github.com/PyAV-Org/PyAV/pull/2136)."""
    pictures, position = [], 0
    with av.open(path) as container:
        stream = _pyav_stream(container, threads)
        key_frames, frames = stream.index_entries, container.decode(stream)
        for index in indices:
            pts = round(index / 30 / stream.time_base)
            if key_frames.search_timestamp(pts) > key_frames.search_timestamp(position):
                container.seek(pts, stream=stream)
                frames = container.decode(stream)
            frame = next(frame for frame in frames if frame.pts >= pts)
            pictures.append(_pyav_square(frame))
            position = frame.pts
    return np.stack(pictures)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("num_frames", "spacing"), [(300, 250), (1800, 30), (1800, 250), (1800, 600)]
)
def test_sixteen_frames_of_a_film(num_frames: int, spacing: int, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, num_frames, spacing)
    item = Item("a", str(film), "video")
    times_s = decode(film, item, Uniform(FRAMES), SIZE).times_s
    indices = np.rint(times_s * 30).astype(int).tolist()
    ways: dict[str, Callable[[], np.ndarray]] = {
        "decode": lambda: decode(film, item, Uniform(FRAMES), SIZE).pixels,
        "decord": lambda: with_decord(film, indices),
        "OpenCV, seeking": lambda: opencv_seeks(film, indices),
        "OpenCV, reading on": lambda: opencv_reads_on(film, indices),
        "OpenCV, reading on, its own threads": lambda: opencv_reads_on(film, indices, 0),
        "PyAV, seeking ahead": lambda: pyav_seeks_ahead(film, indices),
        "PyAV, reading on": lambda: pyav_reads_on(film, indices),
        "PyAV, reading on, its own threads": lambda: pyav_reads_on(film, indices, 0),
    }
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        print(f"\ntorchcodec: does not load ({type(error).__name__})")
    else:
        ways["torchcodec"] = lambda: VideoDecoder(film, num_ffmpeg_threads=1).get_frames_at(indices)
    expected = ways["decode"]()
    assert (expected == ways["decord"]()).all()
    for name, way in ways.items():
        # The same frames; other libraries scale them in other ways.
        assert np.abs(way().astype(int) - expected).mean() < 4, name
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    print(
        f"\n{FRAMES} of {num_frames} frames, a key every {spacing}; one thread, "
        f"medians of {ROUNDS} rounds:"
    )
    for name, measured in seconds.items():
        ratios = [s / d for s, d in zip(measured, seconds["decode"], strict=True)]
        print(f"  {name:36} {median(measured):6.3f} s   {median(ratios):5.2f} x decode")


def write_long_film(path: Path, hours: float) -> None:
    """1080p at 25 frames a second: ten seconds, repeated."""
    memory = path.with_name("short.mp4")
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    with av.open(memory, "w") as container:
        options = {"preset": "ultrafast", "crf": "40"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.gop_size = 250
        for index in range(250):
            still[:200, :200] = index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(still)))
        container.mux(stream.encode(None))
    with av.open(memory) as source, av.open(path, "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(video=0) if p.size]
        base = source.streams.video[0].time_base
        for turn in range(round(hours * 360)):
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                shift = turn * round(10 / base)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, base
                packet.is_keyframe, packet.stream = key, stream
                container.mux_one(packet)


MEASURE = """
import resource, sys, time
from pathlib import Path
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.sampling import Uniform
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
frames = decode(Path(sys.argv[1]), Item("a", "a", "video"), Uniform(16), 224)
assert len(frames.pixels) == 16 and frames.degraded is None
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(round(before / 1024), round(after / 1024), round(time.perf_counter() - began, 1))
"""


@pytest.mark.bench
def test_the_memory_that_two_hours_take(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_long_film(film, 2)
    command = [sys.executable, "-c", MEASURE, str(film)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after, seconds = done.stdout.split()
    print(
        f"\n16 frames of two hours of 1080p ({film.stat().st_size >> 20} MiB): {seconds} s, "
        f"at most {after} MiB resident, {before} MiB before"
    )
