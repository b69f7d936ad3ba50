"""Laws that hold for every model that generates text, checked on small models.

Training processes whole sequences and search proceeds token by token; padding, batches and the
selection of rows must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from intertitle.pipeline.errors import UserError
from intertitle.training.config.models import MODELS
from intertitle.training.config.toml_config import validate
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.search.beam import beam
from intertitle.training.trainer.losses import SequenceLoss

SIZES = Sizes(vocabulary=11, source_vocabulary=9, feature_dim=5)
_CELLS = 3
_TARGETS: tuple[Sequence[int], ...] = ([4, 5, 6], [7], [], [10, 4, 4, 8, 9])
_SOURCES: tuple[Sequence[int], ...] = ([4, 5, 4, 8], [6], [], [7, 8])
_NUM_FRAMES = (3, 1, 4, 2)
_MAX_TOKENS = 6


def expect(condition: object, law: str) -> None:
    """Raise an `AssertionError` that names a law unless its condition is true."""
    if not condition:
        raise AssertionError(law)


def _close(first: Tensor, second: Tensor, law: str, atol: float = 1e-5) -> None:
    expect(torch.allclose(first, second, atol=atol), law)


def example_rows(task: Task, seed: int = 0) -> list[Row]:
    """Return four examples with the inputs of a task, and targets of different lengths.

    Args:
        task: task of the model.
        seed: seed of the features; another seed also permutes the sources.
    """
    rng = np.random.default_rng(seed)
    features: list[Any] = [None] * len(_TARGETS)
    if task.visual_input != "nothing":
        dim = SIZES.feature_dim
        shape = (dim,) if task.visual_input == "pooled" else (_CELLS, dim)
        features = [rng.normal(1, 3, (t, *shape)).astype(np.float32) for t in _NUM_FRAMES]
    sources = [*_SOURCES[seed:], *_SOURCES[:seed]] if task.has_source else [()] * len(_TARGETS)
    return [Row(*parts) for parts in zip(features, sources, _TARGETS, strict=True)]


def small_generator(section: Mapping[str, Any]) -> Generator[Any]:
    """Build a small model whose weights are far from those that predict the same for all inputs.

    Args:
        section: model section of a recipe, with its `kind`.

    Raises:
        AssertionError: the model generates no text.
        UserError: the kind is missing or unknown, or a field is not allowed.
    """
    torch.manual_seed(0)
    if "kind" not in section:
        raise UserError("model.kind: Field required")
    small = {"embedding_size": 6, "hidden_size": 7, "dropout": 0.3, **section}
    config = validate(MODELS.load(section["kind"], "model.kind").config, small, "model")
    model = build_model(config, SIZES)
    if not isinstance(model, Generator):
        raise AssertionError(f"a model that generates text is a Generator, not {section['kind']}")
    if model.task.visual_input != "nothing":
        model.fit_normalizer([torch.tensor(row.features) for row in example_rows(model.task, 1)])
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


def batch_of(rows: Sequence[Row]) -> Batch:
    """Return a batch of sentences."""
    return make_batch(list(rows), sentences=True)


@torch.no_grad()
def forward_log_probs(model: Generator[Any], batch: Batch) -> Tensor:
    """Return the log-probabilities after the correct tokens, computed at once, [B, L, V]."""
    return torch.log_softmax(model.logits(model.forward(batch)), -1)


@torch.no_grad()
def step_log_probs(model: Generator[Any], batch: Batch) -> Tensor:
    """Return the log-probabilities after the correct tokens, computed by steps, [B, L, V]."""
    state, steps = model.start(batch), []
    for token_ids in batch.inputs.T:
        log_probs, state = model.step(state, token_ids)
        steps.append(log_probs)
    return torch.stack(steps, 1)


def is_target(batch: Batch) -> Tensor:
    """Return a mask of the targets that are not padding, [B, L]."""
    return torch.arange(batch.targets.shape[1]) < batch.target_lengths[:, None]


def law_steps_equal_forward(model: Generator[Any]) -> None:
    """Hold that training and search compute the same probabilities."""
    batch = batch_of(example_rows(model.task))
    mask = is_target(batch)
    at_once, by_steps = forward_log_probs(model, batch)[mask], step_log_probs(model, batch)[mask]
    _close(at_once, by_steps, "`step` computes what `forward` computes")
    _close(at_once.exp().sum(-1), torch.ones(len(at_once)), "probabilities sum to 1")


def law_batch_invariance(model: Generator[Any]) -> None:
    """Hold that a row has the same probabilities alone and in a batch."""
    rows = example_rows(model.task)
    for log_probs in (forward_log_probs, step_log_probs):
        together = log_probs(model, batch_of(rows))
        for number, row in enumerate(rows):
            alone = log_probs(model, batch_of([row]))[0]
            law = f"a row is the same alone as in a batch ({log_probs.__name__})"
            _close(together[number, : len(alone)], alone, law)


def law_padding(model: Generator[Any]) -> None:
    """Hold that more padding changes nothing."""
    batch = batch_of(example_rows(model.task))
    padded = replace(
        batch,
        features=torch.cat([batch.features, torch.zeros_like(batch.features[:, :2])], 1),
        source=pad(batch.source, (0, 2)),
        inputs=pad(batch.inputs, (0, 3)),
        targets=pad(batch.targets, (0, 3)),
    )
    mask = is_target(batch)
    for log_probs in (forward_log_probs, step_log_probs):
        longer = log_probs(model, padded)[:, : mask.shape[1]]
        law = f"padding changes nothing ({log_probs.__name__})"
        _close(log_probs(model, batch)[mask], longer[mask], law)


@torch.no_grad()
def law_selection(model: Generator[Any]) -> None:
    """Hold that a selection of a state's rows continues as these rows."""
    batch, rows = batch_of(example_rows(model.task)), torch.tensor([3, 0, 0, 2, 1, 3])
    _, state = model.step(model.start(batch), batch.inputs[:, 0])
    token_ids = torch.tensor([4, 5, 6, 7])
    log_probs, after = model.step(state, token_ids)
    selected, after_selected = model.step(state.select(rows), token_ids[rows])
    law = "`select` returns the states of the rows"
    _close(selected, log_probs[rows], law, 1e-6)
    continued, _ = model.step(after_selected, token_ids[rows])
    _close(continued, model.step(after.select(rows), token_ids[rows])[0], law, 1e-6)


def law_gradients(model: Generator[Any]) -> None:
    """Hold that each parameter has a gradient."""
    batch = batch_of(example_rows(model.task))
    loss, _, _ = SequenceLoss(model.train(), SIZES.vocabulary, 0.1).train()(batch)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    expect(not without, f"each parameter has a gradient, but not {', '.join(without)}")


def law_dropout(model: Generator[Any]) -> None:
    """Hold that only training is random."""
    batch = batch_of(example_rows(model.task))
    first = forward_log_probs(model, batch)
    expect(torch.equal(first, forward_log_probs(model, batch)), "evaluation is not random")
    model.train()
    first = forward_log_probs(model, batch)
    expect(not torch.equal(first, forward_log_probs(model, batch)), "dropout acts in training")


def law_inputs_matter(model: Generator[Any]) -> None:
    """Hold that another input has other probabilities."""
    first, second = (
        forward_log_probs(model, batch_of(example_rows(model.task, seed)[:1])) for seed in (0, 3)
    )
    expect(not torch.allclose(first, second, atol=1e-2), "the output depends on the input")


@torch.no_grad()
def law_search(model: Generator[Any]) -> None:
    """Hold that a beam of 1 is greedy, and that a beam's scores are the model's."""
    rows = example_rows(model.task)
    for row, greedy in zip(rows, beam(model, batch_of(rows), 1, _MAX_TOKENS, 0.0), strict=True):
        expected: list[int] = []
        state, token = model.start(batch_of([row])), BOS_ID
        while len(expected) < _MAX_TOKENS:
            log_probs, state = model.step(state, torch.tensor([token]))
            log_probs[0, [PAD_ID, BOS_ID, UNK_ID]] = -torch.inf
            token = int(log_probs[0].argmax())
            if token == EOS_ID:
                break
            expected.append(token)
        expect(list(greedy[0].token_ids) == expected, "a beam of 1 is greedy search")
    for row, ranked in zip(rows, beam(model, batch_of(rows), 3, _MAX_TOKENS, 0.7), strict=True):
        for hypothesis in ranked:
            target = replace(row, targets=hypothesis.token_ids)
            log_probs = forward_log_probs(model, batch_of([target]))[0]
            chosen = [*hypothesis.token_ids, EOS_ID]
            total = float(log_probs[torch.arange(len(chosen)), torch.tensor(chosen)].sum())
            expect(abs(hypothesis.log_prob - total) < 1e-3, "a beam's scores are the model's")


GENERATOR_LAWS: tuple[Callable[[Generator[Any]], None], ...] = (
    law_steps_equal_forward,
    law_batch_invariance,
    law_padding,
    law_selection,
    law_gradients,
    law_dropout,
    law_inputs_matter,
    law_search,
)


def check_generator(section: Mapping[str, Any]) -> None:
    """Check the laws of a model that generates text, on a small model and four examples.

    Args:
        section: model section of a recipe, such as `{"kind": "init_inject", "num_layers": 2}`.

    Raises:
        AssertionError: a law does not hold.
        UserError: the kind is missing or unknown, or a field is not allowed.
    """
    for law in GENERATOR_LAWS:
        law(small_generator(section))
