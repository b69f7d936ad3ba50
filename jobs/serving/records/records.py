"""All records of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from intertitle.jobs.serving.config import ServerConfig
from intertitle.jobs.serving.records.feedback import FeedbackCorpus
from intertitle.jobs.serving.records.shadow import ShadowRecorder
from intertitle.jobs.serving.records.votes import VoteBook


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a server.

    Attributes:
        votes: votes between models.
        feedback: corpus of feedback; None if none is kept.
        shadows: answers of models and of their shadows, by name.
    """

    votes: VoteBook
    feedback: FeedbackCorpus | None
    shadows: Mapping[str, ShadowRecorder]

    def close(self) -> None:
        """Write what has been collected, and finish the runs."""
        self.votes.close()
        for recorder in self.shadows.values():
            recorder.close()


def open_records(config: ServerConfig) -> Records:
    """Open the records that the settings ask for."""
    return Records(
        VoteBook(config.tracking_uri),
        None if config.feedback is None else FeedbackCorpus(Path(config.feedback)),
        {
            model.name: ShadowRecorder(config.tracking_uri, model.name)
            for model in config.models
            if model.shadow is not None
        },
    )
