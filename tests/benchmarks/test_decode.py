"""Sixteen frames of a film: `decode` against other ways to get them, and the memory it takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import pytest

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


def pyav_seeks(path: Path, indices: list[int]) -> np.ndarray:
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for index in indices:
            time_pts = round(index / 30 / stream.time_base)
            container.seek(time_pts, stream=stream)
            frame = next(f for f in container.decode(stream) if f.pts >= time_pts)
            small = frame.reformat(SIZE, SIZE, "rgb24", interpolation="BICUBIC")
            pictures.append(small.to_ndarray())
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
        "PyAV": lambda: pyav_seeks(film, indices),
    }
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        print(f"\ntorchcodec: does not load ({type(error).__name__})")
    else:
        ways["torchcodec"] = lambda: VideoDecoder(film, num_ffmpeg_threads=1).get_frames_at(indices)
    assert (ways["decode"]() == ways["decord"]()).all()
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(ROUNDS):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            ways[name]()
            best[name] = min(best[name], time.perf_counter() - began)
    print(
        f"\n{FRAMES} of {num_frames} frames, a key every {spacing}; one thread, best of {ROUNDS}:"
    )
    for name, seconds in best.items():
        print(f"  {name:36} {seconds:6.3f} s   {seconds / best['decode']:5.2f} x decode")


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
