"""Answers of a loaded model to the inputs of several callers at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.jobs.options import search_changes
from intertitle.jobs.serving.config import LimitConfig
from intertitle.jobs.serving.errors import ApiError, defect, from_user_error
from intertitle.jobs.serving.models.files import FileReader, as_jpeg
from intertitle.jobs.serving.models.novelty import unknown_words
from intertitle.jobs.serving.models.replay import as_attention, replay
from intertitle.jobs.serving.schemas import (
    Candidate,
    Options,
    Result,
    SearchFields,
    TokenProbability,
)
from intertitle.pipeline.errors import UserError, is_text, one_line
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.tokenizer import EOS_ID
from intertitle.training.evaluation.answers import Answer, rank_labels
from intertitle.training.evaluation.evaluate import NUM_TEXTS, TEXT_TOKENS, decode_lines
from intertitle.training.inference.attention_maps import (
    END_MARK,
    has_attention,
    hop_attention,
    name_hops,
)
from intertitle.training.inference.inputs import read_queries
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.base import Generator
from intertitle.training.models.captioners.novelty import far_features
from intertitle.training.search.generate import generate, iter_tokens, sample_stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """One input of a request.

    Attributes:
        name: name that the caller gave the input, repeated in the answer.
        text: text or question; None if there is none.
        file: content of the file; None if there is none.
        number: number of the input in its request, which random draws depend on.
        options: options of the request.
    """

    name: str
    text: str | None
    file: bytes | None
    number: int
    options: Options

    def num_bytes(self) -> int:
        """Return the size of the content."""
        return len(self.file or b"") + len(self.text or "")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input that is ready for the model.

    Attributes:
        query: input of the request.
        row: features and source tokens.
        search: settings of the search.
        frames: frames that the model reads, uint8 [T, H, W, 3], if they are wanted.
        warnings: warnings about truncated texts and inputs unlike the training split.
    """

    query: Query
    row: Row
    search: SearchConfig
    frames: NDArray[np.uint8] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Output:
    """Text, score and tokens of an output; labels have no tokens."""

    text: str
    score: float
    token_ids: tuple[int, ...] = ()


class Predictor:
    """A model with what its answers need.

    Args:
        trained: trained model, on the device that computes.
        limits: limits on what callers may use.
    """

    def __init__(self, trained: TrainedModel, limits: LimitConfig) -> None:
        self.trained, self._max_hypotheses = trained, limits.hypotheses
        self.attention = has_attention(trained)
        self._device = next(trained.model.parameters()).device
        self._names = trained.vocabularies.target.tokens()
        features = trained.data.features
        self._files = FileReader(features, limits) if features else None

    def prepare(self, query: Query) -> Prepared:
        """Decode and read an input; blocks.

        Raises:
            ApiError: the input is invalid or cannot be read.
        """
        options, where = query.options, f"inputs.{query.number}."
        search = self._search_of(options)
        self._check_inputs(query, where)
        self._check_options(options)
        sources, warnings = read_queries(self.trained, [query.text or ""])
        source = sources[0] if sources else []
        warnings += unknown_words(source)
        features, frames = None, None
        if query.file is not None:
            assert self._files is not None
            features, frames = self._files.read(
                query.file, query.name or "file", where + "data", with_frames=options.frames
            )
            warnings += far_features(self.trained.model, features)
        return Prepared(query, Row(features, source), search, frames, warnings)

    def answer(self, prepared: Sequence[Prepared]) -> list[Result | ApiError]:
        """Answer inputs of any callers; those with the same settings are computed together."""
        results: dict[int, Result | ApiError] = {}
        groups: dict[tuple[SearchConfig, int, int | None, int | None], list[int]] = {}
        for n, item in enumerate(prepared):
            options = item.query.options
            key = (item.search, options.nbest, options.num_texts, options.num_tokens)
            groups.setdefault(key, []).append(n)
        for (search, nbest, *_), numbers in groups.items():
            # Each hypothesis has a state of its own, and may have a copy of the input.
            size = max(1, self._max_hypotheses // max(search.beam_size, nbest))
            for at in range(0, len(numbers), size):
                portion = numbers[at : at + size]
                answers = self._answer_or_fail([prepared[n] for n in portion])
                results |= zip(portion, answers, strict=True)
        return [results[n] for n in range(len(prepared))]

    def stream(self, prepared: Prepared) -> Iterator[dict[str, Any]]:
        """Generate the output of one input token by token.

        Yields:
            Events with the token, its probability and the text so far; the last one is the result.

        Raises:
            ApiError: the model does not generate text, or the settings do not fit it.
        """
        model, tokenizer = self.trained.model, self.trained.vocabularies.target
        if not isinstance(model, Generator):
            raise ApiError(
                422, "model", self.trained.recipe.name, "predict: a label is no text to stream"
            )
        options = prepared.query.options
        for field, value in (("nbest", options.nbest), ("beam", options.beam or 1)):
            if value > 1:
                raise ApiError(422, field, str(value), "1, or sampling, for a stream")
        is_text_stream = self.trained.task.output == "stream"
        num_tokens = (prepared.query.options.num_tokens or TEXT_TOKENS) if is_text_stream else None
        batch = self._batch([prepared])
        ids: list[int] = []
        tokens: list[TokenProbability] = []
        total, text = 0.0, ""
        try:
            for generated in iter_tokens(
                model, batch, tokenizer, prepared.search, prepared.query.number, num_tokens
            ):
                total += generated.log_prob
                if generated.token_id == EOS_ID and not is_text_stream:
                    break
                ids.append(generated.token_id)
                text = decode_lines(ids, tokenizer) if is_text_stream else tokenizer.decode(ids)
                tokens.append(self._token(generated.token_id, generated.log_prob))
                yield {"text": text, **tokens[-1].model_dump()}
        except UserError as error:
            raise from_user_error(error, self.trained.recipe.name) from error
        score = 0.0 if is_text_stream else total / (len(ids) + 1) ** prepared.search.length_penalty
        output = _Output(text, score, tuple(ids))
        result = self._result(prepared, [output])
        result.nbest[0].tokens = tokens
        yield {"result": result.model_dump()}

    def _search_of(self, options: Options) -> SearchConfig:
        fields = {name: getattr(options, name) for name in SearchFields.model_fields}
        if options.prefix is not None and not is_text(options.prefix):
            raise ApiError(422, "prefix", one_line(options.prefix), "UTF-8")
        try:
            return self.trained.with_search(**search_changes(**fields)).recipe.search
        except UserError as error:
            raise from_user_error(error, self.trained.recipe.name) from error

    def _check_inputs(self, query: Query, where: str) -> None:
        task, name = self.trained.task, self.trained.recipe.name
        for field, value, is_wanted in (
            ("data", query.file, task.visual_input != "nothing"),
            ("text", query.text, task.has_source),
        ):
            if value is not None and not is_wanted:
                raise ApiError(422, where + field, "given", f"none: {name} does not read it")
            if value is None and is_wanted:
                raise ApiError(422, where + field, "", f"required: {name} reads it")
        if query.text is not None and not is_text(query.text):
            raise ApiError(422, where + "text", one_line(query.text), "UTF-8")

    def _check_options(self, options: Options) -> None:
        output = self.trained.task.output
        if options.nbest > 1 and output in ("stream", "label_per_frame"):
            raise ApiError(422, "nbest", str(options.nbest), "1 for this model")
        if options.attention and not self.attention:
            raise ApiError(422, "attention", "true", "false: this model has no attention")
        if options.frames and self._files is None:
            raise ApiError(422, "frames", "true", "false: this model reads no files")
        for field in ("num_texts", "num_tokens"):
            if getattr(options, field) is not None and output != "stream":
                value = str(getattr(options, field))
                raise ApiError(422, field, value, "none: for language models alone")

    def _batch(self, group: Sequence[Prepared]) -> Batch:
        is_sentence = self.trained.task.output in ("sentence", "stream")
        return make_batch([item.row for item in group], sentences=is_sentence).to(self._device)

    def _answer_or_fail(self, group: Sequence[Prepared]) -> Sequence[Result | ApiError]:
        """Answer inputs with the same settings; what fails is the answer to these alone."""
        try:
            return self._answer_group(group)
        except UserError as error:
            failure = from_user_error(error, self.trained.recipe.name)
        except Exception as error:
            _log.exception("inputs with the settings %s failed", group[0].search)
            failure = defect(error)
        return [failure] * len(group)

    def _answer_group(self, group: Sequence[Prepared]) -> list[Result]:
        """Answer inputs with the same settings, at most a batch of them."""
        trained, search = self.trained, group[0].search
        options = group[0].query.options
        model, tokenizer = trained.model, trained.vocabularies.target
        if trained.task.output == "stream":
            assert isinstance(model, Generator)
            rows = [Row() for _ in range(options.num_texts or NUM_TEXTS)]
            batch = make_batch(rows, sentences=True).to(self._device)
            texts = sample_stream(
                model, batch, tokenizer, search, options.num_tokens or TEXT_TOKENS
            )
            outputs = [_Output(decode_lines(ids, tokenizer), 0.0, tuple(ids)) for ids in texts]
            return [self._result(item, outputs) for item in group]
        # A text without tokens, such as an empty one, has an empty answer, as in `predict`.
        is_blank = [item.row.features is None and not len(item.row.source) for item in group]
        filled = [item for item, blank in zip(group, is_blank, strict=True) if not blank]
        results = iter(self._rank(filled, search, options.nbest) if filled else [])
        return [
            self._result(item, [_Output("", 0.0)] if blank else next(results))
            for item, blank in zip(group, is_blank, strict=True)
        ]

    def _rank(
        self, group: Sequence[Prepared], search: SearchConfig, nbest: int
    ) -> list[list[_Output]]:
        model, tokenizer = self.trained.model, self.trained.vocabularies.target
        batch = self._batch(group)
        if not isinstance(model, Generator):
            ranked: list[list[Answer]] = rank_labels(model, batch, tokenizer, nbest)
            return [[_Output(" | ".join(a.texts), a.score) for a in row] for row in ranked]
        numbers = [item.query.number for item in group]
        hypotheses = generate(model, batch, tokenizer, search, numbers, nbest)
        return [
            [_Output(tokenizer.decode(h.token_ids), h.score, h.token_ids) for h in row]
            for row in hypotheses
        ]

    def _result(self, item: Prepared, outputs: Sequence[_Output]) -> Result:
        options = item.query.options
        candidates = [
            Candidate(rank=rank, text=output.text, score=output.score)
            for rank, output in enumerate(outputs, start=1)
        ]
        attention = None
        if isinstance(self.trained.model, Generator) and (options.tokens or options.attention):
            sequences = [output.token_ids for output in outputs]
            log_probs, weights = replay(self.trained.model, self._batch([item]), sequences)
            if options.tokens:
                for candidate, ids, row in zip(candidates, sequences, log_probs, strict=True):
                    candidate.tokens = [
                        self._token(token, log_prob)
                        for token, log_prob in zip(ids, row, strict=False)
                    ]
            if options.attention and weights is not None:
                names = [*(self._names[token] for token in outputs[0].token_ids), END_MARK]
                attention = as_attention(self.trained, item.row, names, weights)
        elif options.attention:
            weights = hop_attention(self.trained.model, self._batch([item]))
            if weights is not None:
                names = name_hops(len(weights), outputs[0].text)
                attention = as_attention(self.trained, item.row, names, weights)
        return Result(
            input=item.query.name or item.query.text or "",
            text=candidates[0].text,
            score=candidates[0].score,
            nbest=candidates,
            attention=attention,
            frames=None if item.frames is None else [as_jpeg(frame) for frame in item.frames],
            warnings=list(item.warnings),
        )

    def _token(self, token_id: int, log_prob: float) -> TokenProbability:
        name = "\n" if token_id == EOS_ID else self._names[token_id]
        return TokenProbability(token=name, probability=float(np.exp(log_prob)))
