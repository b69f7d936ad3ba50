"""The server: latency, throughput relative to a loop over the model, and memory under load."""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from PIL import Image, ImageFilter

from intertitle.training.config.recipe import load_recipe
from intertitle.training.inference.model_bundle import load_trained
from intertitle.training.inference.predictor import predict
from intertitle.training.tracking.store.client import RunRef
from tests.jobs.program import somebody
from tests.jobs.serving.servers import Server, serving
from tests.jobs.serving.tiny_models import log_run, visual_data
from tests.training.conftest import coloured_things, untrained, words_of

pytestmark = pytest.mark.bench
NUM, CALLERS = 96, 16
# Throughput of callers at the same time relative to one caller, and to a loop without a server.
LEAST_GAIN, LEAST_SHARE = 3, 0.8
LOAD_S, WARM_S, MOST_GROWTH = 600, 90, 1.05


def photograph(seed: int) -> bytes:
    """A JPEG of 640 x 480, smooth like a photograph; each is another, so that no answer is kept."""
    pixels = np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4)).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def run(onnx_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRef:
    """A captioner of the recipe's size."""
    recipe = load_recipe("show_and_tell", ["tokenizer.min_count=1", "search.min_tokens=10"])
    trained = untrained(recipe, visual_data("pooled", 1), words_of(coloured_things(200)))
    return log_run(tmp_path_factory.mktemp("captioner"), "captioner", trained)


@pytest.fixture
def server(run: RunRef, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        somebody(tmp_path_factory.mktemp("server")) as person,
        serving(person, (run,), "words=captioner") as started,
    ):
        for n in range(8):
            send(started, photograph(n))
        yield started


def send(server: Server, file: bytes) -> float:
    """Ask for a caption; return the seconds that it took."""
    start = time.perf_counter()
    response = requests.post(
        f"{server.url}/v1/models/words/predict", files={"file": ("a.jpg", file)}, timeout=120
    )
    assert response.status_code == 200, response.text
    return time.perf_counter() - start


def work(call: Callable[[int], bool], callers: int) -> None:
    """Call a function with the numbers 0, 1, ... from several threads until it returns False."""
    numbers = itertools.count()

    def calling() -> None:
        while call(next(numbers)):
            pass

    threads = [threading.Thread(target=calling) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def throughput(server: Server, files: list[bytes], callers: int) -> tuple[float, list[float]]:
    """Requests per second, and the time of each."""
    seconds: list[float] = []

    def call(n: int) -> bool:
        if n < len(files):
            seconds.append(send(server, files[n]))
        return n < len(files)

    start = time.perf_counter()
    work(call, callers)
    assert len(seconds) == len(files)
    return len(files) / (time.perf_counter() - start), seconds


def test_throughput(server: Server, run: RunRef, tmp_path: Path) -> None:
    alone, seconds = throughput(server, [photograph(100 + n) for n in range(NUM // 2)], 1)
    together, _ = throughput(server, [photograph(1000 + n) for n in range(NUM)], CALLERS)
    server.process.terminate()
    server.process.wait(60)
    trained, files = load_trained(run), []
    for n in range(NUM // 2):
        files.append(tmp_path / f"{n}.jpg")
        files[-1].write_bytes(photograph(2000 + n))
    predict(trained, files[:2])
    start = time.perf_counter()
    for file in files:
        predict(trained, [file])
    loop = len(files) / (time.perf_counter() - start)
    p50, p95 = np.percentile(seconds, [50, 95])
    print(
        f"\none caller: p50 {1000 * p50:.0f} ms, p95 {1000 * p95:.0f} ms, {alone:.1f}/s; "
        f"{CALLERS} callers: {together:.1f}/s, {together / alone:.2f} x; loop: {loop:.1f}/s, "
        f"{together / loop:.2f} x"
    )
    assert together >= LEAST_GAIN * alone
    assert together >= LEAST_SHARE * loop


def test_ten_minutes_of_load_leave_the_memory_as_it_was(server: Server) -> None:
    files = [photograph(n) for n in range(64)]
    start = time.monotonic()
    sizes: list[tuple[float, int]] = []
    num = 0
    errors: list[Exception] = []

    def call(n: int) -> bool:
        nonlocal num
        file = files[n % len(files)]
        # A comment with the number: the features of a file are computed once.
        comment = b"\xff\xfe\x00\x06" + n.to_bytes(4)
        try:
            send(server, file[:2] + comment + file[2:])
        except (AssertionError, requests.RequestException) as error:
            errors.append(error)
        num = n
        return time.monotonic() - start < LOAD_S

    load = threading.Thread(target=work, args=(call, 4))
    load.start()
    while load.is_alive():
        time.sleep(5)
        sizes.append((time.monotonic() - start, memory_of(server)))
    load.join()
    assert not errors
    first = np.median([size for at, size in sizes if WARM_S < at < 2 * WARM_S])
    last = np.median([size for at, size in sizes if at > LOAD_S - WARM_S])
    print(f"\n{num} requests; {first / 2**20:.0f} MiB, then {last / 2**20:.0f} MiB")
    assert last <= MOST_GROWTH * first


def memory_of(server: Server) -> int:
    """Bytes that the processes of Serve have to themselves: replicas, the ingress and the proxy."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    size = 0
    for process in family:
        with suppress(psutil.NoSuchProcess):
            if any(name in " ".join(process.cmdline()) for name in ("ray::Serve", "ray::Proxy")):
                size += process.memory_full_info().uss
    return size
