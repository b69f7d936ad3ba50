"""Predictions and the references that they are measured against, as metrics receive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeVar

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import MetricTask
from intertitle.training.evaluation.metrics import meteor
from intertitle.training.evaluation.metrics.metric_tokenizer import (
    DEFAULT,
    open_tokenizer,
    warn_unsplit,
    words_for_captions,
)
from intertitle.training.evaluation.metrics.scores import check_count, check_references

T = TypeVar("T")
NUM_LOOKED_AT = 10_000
"""References that a tokenizer is tried on, at most."""


class References:
    """Reference texts of B examples; what metrics compute from them is computed once.

    Attributes:
        texts: one or more reference texts of each example; for labels of frames, the label of each
            frame.
        tokenizer: name of the tokenizer of metrics that count words.
        language: code of the references' language, such as `en`; None if it is unknown.
        background: label of frames that metrics of segments leave out, or None.
        nrefs: number of references of an example, or "var" if it varies, for signatures.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        tokenizer: str = DEFAULT,
        language: str | None = None,
        background: str | None = None,
    ) -> None:
        """Check the references.

        Raises:
            UserError: there is no example, or an example has no reference or an empty one, or the
                tokenizer is not available.
        """
        check_references(texts)
        if tokenizer != DEFAULT:
            open_tokenizer(tokenizer)
        self.tokenizer, self.language, self.background = tokenizer, language, background
        self.texts = [list(group) for group in texts]
        sizes = {len(group) for group in texts}
        self.nrefs = str(sizes.pop()) if len(sizes) == 1 else "var"
        self._prepared: dict[str, Any] = {}

    def prepared(self, key: str, prepare: Callable[[], T]) -> T:
        """Return what a metric prepares from the references, prepared by the first call.

        Args:
            key: name, which begins with that of the metric.
            prepare: function that prepares it.
        """
        if key not in self._prepared:
            self._prepared[key] = prepare()
        prepared: T = self._prepared[key]
        return prepared

    def tokenize(self, sentences: Sequence[str]) -> list[str]:
        """Tokenize sentences for coco-caption's metrics: words joined by blanks."""
        if self.tokenizer == DEFAULT:
            return meteor.ptb_tokenize(sentences)
        return list(map(words_for_captions(self.tokenizer), sentences))

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The references as coco-caption reads them, tokenized in one run."""
        tokens = iter(self.tokenize([text for group in self.texts for text in group]))
        return [list(islice(tokens, len(group))) for group in self.texts]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about references whose words the tokenizer does not split."""
        texts = (text for group in self.texts for text in group)
        return warn_unsplit(islice(texts, NUM_LOOKED_AT), self.tokenizer)

    @property
    def background_warnings(self) -> tuple[str, ...]:
        """Warning about a background that is the label of no frame."""
        if self.background is None or any(self.background in group for group in self.texts):
            return ()
        return (f"evaluation.background: {self.background!r} is the label of no frame",)

    def coco_signature(self, *parts: str) -> str:
        """Return the signature of a metric of coco-caption, in the format of sacreBLEU."""
        source = f"pycocoevalcap:{version('pycocoevalcap')}"
        tokens = "ptb-3.4.1-nopunct"
        if self.tokenizer != DEFAULT:
            tokens = f"{open_tokenizer(self.tokenizer).signature()}-lower-nopunct"
        return "|".join([*parts, f"nrefs:{self.nrefs}", f"tok:{tokens}", source])


class Predictions:
    """Predictions for the B examples of some references.

    Attributes:
        task: kind of the task.
        references: references.
        texts: prediction of each example; empty for labels of frames.
        labels: labels of the frames of each example; empty otherwise.
    """

    def __init__(
        self, task: MetricTask, references: References, outputs: Sequence[str | Sequence[str]]
    ) -> None:
        """Check the predictions.

        Args:
            task: kind of the task.
            references: references.
            outputs: B texts, or the labels of the frames of B sequences.

        Raises:
            UserError: the numbers of predictions and of examples differ, or those of the labels and
                the frames of a sequence.
        """
        check_count(outputs, references.texts)
        self.task, self.references = task, references
        self.texts = [output for output in outputs if isinstance(output, str)]
        self.labels = [list(output) for output in outputs if not isinstance(output, str)]
        for index, (labels, frames) in enumerate(zip(self.labels, references.texts, strict=False)):
            if len(labels) != len(frames):
                raise UserError(
                    f"hypotheses: example {index} has {len(labels)} labels for {len(frames)} "
                    "frames; exactly one for each is needed"
                )
        self._shared: dict[str, Any] = {}

    @cached_property
    def tokens(self) -> list[str]:
        """The predictions as coco-caption reads them: words joined by blanks."""
        return self.references.tokenize(self.texts)

    def shared(self, key: str, compute: Callable[[], T]) -> T:
        """Return what several metrics compute from the predictions, computed by the first call."""
        if key not in self._shared:
            self._shared[key] = compute()
        shared: T = self._shared[key]
        return shared
