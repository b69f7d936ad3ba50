"""Feedback of callers, kept as a corpus that `intertitle retrain` takes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from intertitle.jobs.serving.errors import ApiError
from intertitle.pipeline.corpus import Example, Item, Kind, write_corpus
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.endings import ending_for
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.importers.kinds import kind_of
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.paths import as_path, atomic_write

FEEDBACK_FORMAT = FormatVersion("feedback", 1)
_LOG, _MEDIA = "feedback.jsonl", "media"
_SPLIT = "train"


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
        return self.correction.strip() or (self.answer.strip() if self.is_good else "")


class FeedbackCorpus:
    """A corpus that grows: its tables are rewritten with each judgement.

    Each judgement is a line of `feedback.jsonl`; those with a text to learn are examples of the
    split "train". A file is kept once, under the hash of its content.

    Args:
        folder: folder of the corpus.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        (folder / _MEDIA).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        model: str,
        run_id: str,
        answer: str,
        is_good: bool,
        correction: str = "",
        text: str | None = None,
        file: bytes | None = None,
    ) -> int:
        """Add a judgement; return the number of examples of the corpus.

        Args:
            model: name of the model in URLs.
            run_id: id of the run that answered.
            answer: answer of the model.
            is_good: whether the answer is right.
            correction: right answer, or "".
            text: text of the input, or None.
            file: content of the file, or None.

        Raises:
            ApiError: the file is neither an image nor a video.
        """
        media = None if file is None else self._keep(file)
        entry = FeedbackEntry(
            round(time.time(), 3), model, run_id, answer, is_good, correction, text, media
        )
        with self._lock:
            with (self._folder / _LOG).open("a", encoding="utf-8") as log:
                line = {VERSION_FIELD: FEEDBACK_FORMAT.version, **asdict(entry)}
                log.write(json.dumps(line) + "\n")
            return self._write()

    def _keep(self, data: bytes) -> str:
        try:
            ending = ending_for(data)
        except ProbeError as error:
            raise ApiError(422, "file", "", f"an image or a video: {error.message}") from error
        name = f"{_MEDIA}/{hashlib.sha256(data).hexdigest()}{ending}"
        if not (self._folder / name).exists():
            atomic_write(as_path(self._folder / name), lambda file: file.write(data))
        return name

    def _write(self) -> int:
        """Write the tables of the corpus from all judgements."""
        entries = []
        for line in (self._folder / _LOG).read_text("utf-8").splitlines():
            values = json.loads(line)
            FEEDBACK_FORMAT.check(self._folder / _LOG, values.pop(VERSION_FIELD, None))
            entries.append(FeedbackEntry(**values))
        taught = [(n, entry) for n, entry in enumerate(entries, start=1) if entry.target]
        media = dict.fromkeys(entry.media for _, entry in taught if entry.media)
        items = [Item(name, name, self._kind(name)) for name in media]
        examples = [
            Example(f"feedback-{n}", _SPLIT, entry.media, entry.text, (one_line(entry.target),))
            for n, entry in taught
        ]
        if examples:
            write_corpus(self._folder, items, examples)
        return len(examples)

    def _kind(self, name: str) -> Kind:
        path = self._folder / name
        return kind_of(path, path)
