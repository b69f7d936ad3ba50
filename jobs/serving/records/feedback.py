"""Feedback of callers, kept for each model as a corpus that `intertitle retrain` takes."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.schemas import Feedback, ModelDetails
from intertitle.pipeline.corpus import Example, Item, clean_text, write_corpus
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.endings import ending_for
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.kinds import kind_of
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.paths import as_path, atomic_write

_log = logging.getLogger(__name__)
FEEDBACK_FORMAT = FormatVersion("feedback", 1)
_JUDGEMENTS, _MEDIA, _DAMAGED = "feedback.jsonl", "media", "feedback.damaged"
# One input in this number is in the split "val".
_VAL_EVERY = 10
# Maximum size of the judgements of a model and their files.
MAX_BYTES = 10 * 2**30


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """One judgement of an answer.

    Attributes:
        time: seconds since 1970.
        model: name of the model in URLs.
        run_id: id of the run that answered.
        answer: answer of the model.
        is_good: whether the answer is right.
        correction: right answer, or "" if there is none.
        text: text of the input, or None.
        media: path of the file below the corpus, or None.
    """

    time: float
    model: str
    run_id: str
    answer: str
    is_good: bool
    correction: str
    text: str | None
    media: str | None

    @property
    def target(self) -> str:
        """Text to learn: the correction, or the answer if it is right; "" if there is none."""
        return clean_text(self.correction) or (clean_text(self.answer) if self.is_good else "")

    @property
    def split(self) -> str:
        """Split of the example: the content of the input decides, so an input is in one split."""
        content = self.media or clean_text(self.text or self.target)
        digest = hashlib.sha256(content.encode()).digest()
        return "train" if int.from_bytes(digest[:8]) % _VAL_EVERY else "val"


class FeedbackCorpus:
    """Judgements of one model's answers, and the corpus of those that have a text to learn.

    Each judgement is a line of `feedback.jsonl`, which one process writes at a time. A file is kept
    once, under the hash of its content.

    Args:
        folder: folder of the corpus.
        max_bytes: maximum size of the judgements and their files.

    Raises:
        UserError: a line of `feedback.jsonl` was not written by this program. A last line that is
            incomplete, because the process was killed, is moved to `feedback.damaged`.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._num_entries = 0
        self._items: dict[str, Item] = {}
        self._examples: list[Example] = []
        (folder / _MEDIA).mkdir(parents=True, exist_ok=True)
        for entry in _read(folder / _JUDGEMENTS):
            self._collect(entry)
        files = [folder / _JUDGEMENTS, *(folder / _MEDIA).iterdir()]
        self._bytes = sum(file.stat().st_size for file in files if file.exists())

    def add(self, model: ModelDetails, feedback: Feedback, file: bytes | None) -> int:
        """Add a judgement; return the number of examples of the corpus.

        Args:
            model: model that answered.
            feedback: judgement.
            file: content of the file of the input, or None.

        Raises:
            ApiError: the input is not what the model reads, or there is no space for it.
        """
        _check_input(model, feedback.text, file)
        media = None if file is None else _media_name(file)
        entry = FeedbackEntry(
            round(time.time(), 3),
            model.name,
            feedback.run_id,
            feedback.answer,
            feedback.good,
            feedback.correction,
            feedback.text if model.has_source else None,
            media,
        )
        line = json.dumps({VERSION_FIELD: FEEDBACK_FORMAT.version, **asdict(entry)}) + "\n"
        with self._lock:
            try:
                self._keep(media, file or b"", line.encode())
            except OSError as error:
                raise _no_space(str(error.strerror)) from error
            # The judgement is kept; the next one writes the tables if they can't be written now.
            self._collect(entry)
            try:
                if entry.target:
                    write_corpus(self._folder, self._items.values(), self._examples)
            except OSError as error:
                _log.warning("%s: the tables are not written: %s", self._folder, error.strerror)
            return len(self._examples)

    def _keep(self, media: str | None, file: bytes, line: bytes) -> None:
        """Write the file of an input, if it is new, and the line of its judgement."""
        is_new = media is not None and not (self._folder / media).exists()
        size = len(line) + (len(file) if is_new else 0)
        if self._bytes + size > self._max_bytes:
            raise _no_space(f"at most {self._max_bytes:,} bytes of feedback for a model")
        if media is not None and is_new:
            atomic_write(as_path(self._folder / media), lambda opened: opened.write(file))
        with (self._folder / _JUDGEMENTS).open("ab", buffering=0) as log:
            end = log.tell()
            if log.write(line) < len(line):
                log.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._bytes += size

    def _collect(self, entry: FeedbackEntry) -> None:
        """Add a judgement to the examples if it has a text to learn."""
        self._num_entries += 1
        if not entry.target:
            return
        if entry.media is not None and entry.media not in self._items:
            path = self._folder / entry.media
            self._items[entry.media] = Item(entry.media, entry.media, kind_of(path))
        name = f"feedback-{self._num_entries}"
        self._examples.append(Example(name, entry.split, entry.media, entry.text, (entry.target,)))


def _read(log: Path) -> Iterator[FeedbackEntry]:
    """Read judgements; a last line that is incomplete is set aside."""
    if not log.exists():
        return
    with log.open("rb+") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                with (log.parent / _DAMAGED).open("ab") as damaged:
                    damaged.write(line + b"\n")
                file.truncate(file.seek(-len(line), os.SEEK_END))
                _log.warning("%s: line %d is incomplete: moved to %s", log, number, _DAMAGED)
                return
            try:
                values = json.loads(line)
                FEEDBACK_FORMAT.check(log, values.pop(VERSION_FIELD, None))
                yield FeedbackEntry(**values)
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{log}: line {number}: {str(error)!r}, allowed: a judgement that "
                    "`intertitle serve --feedback` has written"
                ) from error


def _check_input(model: ModelDetails, text: str | None, file: bytes | None) -> None:
    """Check that an example of the input can be learned: one that cannot would end a training."""
    if model.output == "label_per_frame":
        allowed = "one with an answer for each input, instead of each frame"
        raise ApiError(422, "model", model.name, allowed)
    for field, value, is_wanted in (
        ("data", file, model.visual_input != "nothing"),
        ("text", clean_text(text or ""), model.has_source),
    ):
        if value and not is_wanted:
            raise ApiError(422, field, "given", f"none: {model.name} does not read it")
        if not value and is_wanted:
            raise ApiError(422, field, "", f"required: {model.name} reads it")


def _media_name(file: bytes) -> str:
    try:
        ending = ending_for(file)
    except ProbeError as error:
        raise ApiError(422, "data", "", f"an image or a video: {error.message}") from error
    return f"{_MEDIA}/{hashlib.sha256(file).hexdigest()}{ending}"


def _no_space(allowed: str) -> ApiError:
    return ApiError(507, "feedback", "", allowed)
