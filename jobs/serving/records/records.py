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
        feedback: corpora of feedback on each model, by name; empty if none is kept.
        shadows: answers of models and of their shadows, by name.
    """

    votes: VoteBook
    feedback: Mapping[str, FeedbackCorpus]
    shadows: Mapping[str, ShadowRecorder]

    def close(self) -> None:
        """Write what has been collected, and finish the runs."""
        self.votes.close()
        for recorder in self.shadows.values():
            recorder.close()


def open_records(config: ServerConfig) -> Records:
    """Open the records that the settings ask for.

    Raises:
        UserError: a file of feedback cannot be read.
    """
    folder, names = config.feedback, [model.name for model in config.models]
    return Records(
        VoteBook(config.tracking_uri),
        {} if folder is None else {name: FeedbackCorpus(Path(folder) / name) for name in names},
        {
            model.name: ShadowRecorder(config.tracking_uri, model.name)
            for model in config.models
            if model.shadow is not None
        },
    )
