"""Films whose bytes are damaged anyhow: each is stored or rejected, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.decode import DecodeError, decode
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from tests.pipeline.decoding.video.films import write

# Two codecs for each container.
FILMS = {
    "mp4": (("libx264", {"preset": "veryfast"}), ("mpeg4", {"bf": "2"})),
    "mov": (("libx265", {"x265-params": "log-level=none:keyint=12"}), ("prores_ks", {})),
    "3gp": (("h263", {}), ("libx264", {"preset": "veryfast"})),
    "mkv": (("libx264", {"preset": "veryfast"}), ("ffv1", {})),
    "webm": (("libvpx", {"deadline": "realtime"}), ("libvpx-vp9", {"deadline": "realtime"})),
    "avi": (("mpeg4", {"bf": "1"}), ("mjpeg", {})),
    "asf": (("wmv2", {}), ("msmpeg4", {})),
    "flv": (("flv", {}), ("libx264", {"preset": "veryfast"})),
    "ogv": (("libvpx", {"deadline": "realtime"}), ("libvpx", {"auto-alt-ref": "1"})),
    "ivf": (("libsvtav1", {"preset": "11"}), ("libvpx", {"deadline": "realtime"})),
    "mxf": (("mpeg2video", {"bf": "2"}), ("libx264", {"preset": "veryfast"})),
    "mpg": (("mpeg2video", {"bf": "2"}), ("mpeg1video", {})),
    "ts": (("libx264", {"preset": "veryfast"}), ("mpeg2video", {})),
    "m1v": (("mpeg1video", {}), ("mpeg1video", {"bf": "2"})),
}
FORMATS = {"mkv": "matroska", "ogv": "ogg", "mpg": "mpeg", "ts": "mpegts", "m1v": "mpeg1video"}
PIX_FMTS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}

# What `DecodeError` says of a file that is there.
CLASSES = {"unreadable", "no_video", "empty", "refused", "too_large"}
HANGS_AFTER_S = 60
MEMORY_BYTES = 4 << 30


def write_whole(suffix: str, folder: Path) -> None:
    for which, (codec, options) in enumerate(FILMS[suffix]):
        write(
            folder / f"whole-{which}.{suffix}", codec, PIX_FMTS.get(codec, "yuv420p"), options,
            num_frames=24, gop=8, container=FORMATS.get(suffix, suffix),
        )  # fmt: skip


def damage(suffix: str, which: int, seed: int, folder: Path) -> bytes:
    return damaged((folder / f"whole-{which}.{suffix}").read_bytes(), seed)


def damaged(data: bytes, seed: int) -> bytes:
    """Bytes flipped, a part cut off or out, parts swapped: anywhere or where the headers are."""
    rng = np.random.default_rng(seed)
    size = len(data)
    low, high = [(0, size), (0, min(size, 2048)), (max(0, size - 2048), size)][seed % 3]
    array = np.frombuffer(data, np.uint8).copy()
    kind = seed // 3 % 4
    if kind == 0:
        places = rng.integers(low, high, rng.choice([1, 4, 16, 128]))
        array[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
        return array.tobytes()
    if kind == 1:
        return data[: rng.integers(low, high)]
    length = int(rng.integers(1, min(4096, size // 4)))
    one, other = (int(at) for at in rng.integers(low, max(low + 1, high - length), 2))
    if kind == 2:
        return data[:one] + data[one + length :]
    first, second = array[one : one + length].copy(), array[other : other + length].copy()
    array[one : one + length], array[other : other + length] = second, first
    return array.tobytes()


@pytest.mark.parametrize("size", [96, 224])
@pytest.mark.parametrize("place", [5, 16])
def test_a_damaged_packet_among_frames_that_are_counted_is_marked(
    place: int, size: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.avi", "libx264", num_frames=24)
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][place]
        damage = slice(packet.pos + packet.size // 3, packet.pos + packet.size)
    data = bytearray(path.read_bytes())
    data[damage] = b"\xff" * (damage.stop - damage.start)
    path.write_bytes(data)
    frames = decode(path, Item("a", "a", "video"), Uniform(4), size)
    assert frames.degraded == "damaged: 23 of 24 frames can be read"


def test_a_packet_whose_header_does_not_end_costs_no_more_than_its_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", "mpeg4", num_frames=24, gop=8)
    data = bytearray(path.read_bytes())
    header = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\xb6"][12] + 4
    data[header : header + 40] = b"\xff" * 40
    path.write_bytes(data)
    frames = decode(path, Item("a", "a", "video"), Uniform(8), 64)
    assert frames.degraded == "damaged: 19 of 24 frames can be read"


class Fate(NamedTuple):
    """What became of a damaged file: a word, and why."""

    suffix: str
    seed: int
    word: str
    why: str


def fate(suffix: str, seed: int, folder: Path) -> Fate:
    """Decode a damaged file in a process of its own."""
    path = folder / f"{suffix}-{seed}.{suffix}"
    path.write_bytes(damage(suffix, seed % 2, seed, folder))
    says = path.with_suffix(".says")
    if (pid := os.fork()) == 0:
        # Whatever happens, this process does not go on with the work of its parent.
        try:
            word, why = _decode_here(path)
            says.write_text(f"{word}\n{why}")
        except MemoryError:
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            if sys.exception() is not None:
                says.write_text(f"error\n{traceback.format_exc()}")
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    path.unlink()
    if os.WIFSIGNALED(status):
        word = "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
        return Fate(suffix, seed, word, signal.strsignal(os.WTERMSIG(status)) or "")
    word, why = says.read_text().split("\n", 1)
    says.unlink()
    return Fate(suffix, seed, word, why)


def _decode_here(path: Path) -> tuple[str, str]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANGS_AFTER_S)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        frames = decode(path, Item("a", str(path), "video"), Uniform(8), 96)
    except DecodeError as error:
        return ("rejected" if error.error in CLASSES else "wrong class"), error.error
    except MemoryError:
        return "memory", ""
    return "stored", frames.degraded or ""


@pytest.mark.chaos
@pytest.mark.parametrize("suffix", FILMS)
def test_five_hundred_damaged_files_of_a_container(
    suffix: str, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    # Not by those that are forked: encoders leave threads.
    write_whole(suffix, tmp_path)
    decode_damaged = partial(fate, suffix, folder=tmp_path)
    fates = list(processes.map(decode_damaged, range(500), chunksize=25))
    counts = Counter(one.word for one in fates)
    print(suffix, dict(counts), Counter(one.why for one in fates if one.word == "rejected"))
    # A decoder may crash or ask for too much memory: that is for its sandbox.
    assert counts.keys() <= {"stored", "rejected", "crash", "memory"}, [
        one for one in fates if one.word in ("error", "hang", "wrong class")
    ][:5]
    assert counts.total() == 500 and counts["stored"] > 50 and counts["rejected"] > 5


def _precompute(num_files: int, folder: Path) -> None:
    films = folder / "films"
    films.mkdir()
    for suffix in FILMS:
        write_whole(suffix, folder)
    items = []
    for at in range(num_files):
        # Seeds that the other test has not.
        suffix, seed = list(FILMS)[at % len(FILMS)], 1000 + at
        path = films / f"{at}.{suffix}"
        path.write_bytes(damage(suffix, at // len(FILMS) % 2, seed, folder))
        items.append(Item(path.name, str(path), "video"))
    write_corpus(folder / "corpus", items, [])
    options = PrecomputeOptions(
        "efficientnet_lite0", Uniform(4), shard_items=40, workers=1, stop_failed=1.0
    )
    report = precompute(Corpus(folder / "corpus"), folder / "store", options)
    assert report.stored + len(report.quarantined) == num_files
    assert report.stored > num_files / 4 and report.quarantined and report.degraded
    # A decoder's crash costs its item.
    assert {record.error for record in report.quarantined} <= CLASSES | {"crashed", "memory"}
    store = FeatureStore(folder / "store")
    keys = store.snapshot.table["key"].to_pylist()
    assert sorted(keys) == sorted(item.key for item in items)
    lost = {record.key for record in report.quarantined}
    for key in keys:
        assert key in lost or np.isfinite(store.features(key)).all()


def test_a_job_over_damaged_films_counts_every_one(ray_cluster: None, tmp_path: Path) -> None:
    _precompute(2 * len(FILMS), tmp_path)


@pytest.mark.chaos
def test_a_long_job_over_damaged_films_counts_every_one(ray_cluster: None, tmp_path: Path) -> None:
    _precompute(40 * len(FILMS), tmp_path)
