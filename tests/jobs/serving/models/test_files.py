"""Features of callers' files, computed once for each content and kept for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from intertitle.jobs.serving.config import LimitConfig
from intertitle.jobs.serving.models import files
from intertitle.jobs.serving.models.files import FileReader
from tests.jobs.serving.tiny_models import png

# The begin of a picture, by which its format is known.
HEAD = png()[:33]


class Extractor:
    """Features of 4 bytes for each byte after the head; counts its calls by content."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, path: Path) -> NDArray[np.float32]:
        content = path.read_bytes().removeprefix(HEAD)
        self.counts[content] += 1
        assert self.may_go_on.wait(30)
        return np.frombuffer(content, np.uint8).astype(np.float32)


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> Extractor:
    extractor = Extractor()
    monkeypatch.setattr(files, "feature_extractor", lambda *_: extractor)
    return extractor


def read(reader: FileReader, content: bytes) -> list[float]:
    features, _ = reader.read(HEAD + content, "a.png", "data", with_frames=False)
    return features.tolist()


def test_questions_about_a_file_share_the_work_also_at_the_same_time(
    extractor: Extractor,
) -> None:
    reader = FileReader((), LimitConfig())
    extractor.may_go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(read, reader, b"ab") for _ in range(3)]
        deadline = time.monotonic() + 30
        while not extractor.counts and time.monotonic() < deadline:
            time.sleep(0.01)
        extractor.may_go_on.set()
        assert [answer.result() for answer in answers] == [[97, 98]] * 3
    assert read(reader, b"ab") == [97, 98]
    assert extractor.counts == {b"ab": 1}


@pytest.mark.parametrize(("limit", "value"), [("_CACHE_FILES", 2), ("_CACHE_BYTES", 16)])
def test_files_that_were_not_used_lately_are_forgotten(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(files, limit, value)
    reader = FileReader((), LimitConfig())
    for content in (b"aa", b"bb", b"aa", b"cc", b"aa", b"bb"):
        read(reader, content)
    assert extractor.counts == {b"aa": 1, b"bb": 2, b"cc": 1}
    assert reader._cache_bytes == sum(features.nbytes for features in reader._cache.values()) == 16
