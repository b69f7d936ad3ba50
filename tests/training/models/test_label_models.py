"""What every model that answers with labels promises, and what each adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import pad

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.tokenizer import UNK_ID
from intertitle.training.models.base import Model, Sizes
from intertitle.training.models.build import build_model, task_of
from intertitle.training.models.captioners.inject import standardize_cells
from intertitle.training.models.vqa import StackedAttention
from intertitle.training.trainer.losses import SequenceLoss

SIZES = Sizes(vocabulary=9, source_vocabulary=11, feature_dim=5)
NETWORK = {"embedding_size": 6, "hidden_size": 7, "dropout": 0.3}
CONFIGS: dict[str, dict[str, Any]] = {
    "classifier": {"kind": "classifier"},
    "classifier, last": {"kind": "classifier", "pooling": "last", "num_layers": 2},
    "classifier, one way": {"kind": "classifier", "bidirectional": False},
    "classifier, one way, last": {"kind": "classifier", "bidirectional": False, "pooling": "last"},
    "tagger": {"kind": "tagger", "num_layers": 2},
    "tagger, one way": {"kind": "tagger", "bidirectional": False, "cell": "gru"},
    "vqa": {"kind": "vqa", "num_layers": 2, "fused_size": 8},
    "vqa, gru": {"kind": "vqa", "fused_size": 8, "cell": "gru"},
    "vqa, question": {"kind": "vqa", "fused_size": 8, "uses": "question"},
    "vqa, image": {"kind": "vqa", "fused_size": 8, "uses": "image"},
    "vqa, two hops": {"kind": "vqa_attention", "fused_size": 8, "attention_size": 4},
    "vqa, one hop": {"kind": "vqa_attention", "fused_size": 8, "attention_size": 4, "num_hops": 1},
}
# The third has nothing to read: a source may be one that no token is made of.
SOURCES = ([4, 5, 6], [7], [], [10, 4, 4, 8, 9])
NUM_FRAMES = (3, 1, 4, 2)
CELLS = 3


def config_of(**fields: Any) -> ModelConfig:
    config: ModelConfig = TypeAdapter(ModelConfig).validate_python(NETWORK | fields)
    return config


def frames(seed: int = 0, *, grid: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (CELLS, SIZES.feature_dim) if grid else (SIZES.feature_dim,)
    return [rng.normal(1, 3, (t, *shape)).astype(np.float32) for t in NUM_FRAMES]


def is_grid(config: ModelConfig) -> bool:
    return task_of(config).visual_input == "grid"


def rows_of(config: ModelConfig) -> list[Row]:
    task = task_of(config)
    rows = []
    seen_by_row = frames(grid=is_grid(config))
    for row, (seen, source) in enumerate(zip(seen_by_row, SOURCES, strict=True)):
        targets = [4 + (row + t) % 5 for t in range(len(seen))]
        rows.append(
            Row(
                None if task.visual_input == "nothing" else seen,
                source if task.has_source else (),
                targets if task.output == "label_per_frame" else targets[:1],
            )
        )
    return rows


def batch_of(rows: list[Row]) -> Batch:
    return make_batch(rows, sentences=False)


def make_model(**fields: Any) -> Model:
    torch.manual_seed(0)
    config = config_of(**fields)
    model = build_model(config, SIZES)
    model.fit_normalizer([torch.tensor(f) for f in frames(1, grid=is_grid(config))])
    # Fresh weights say nearly the same of everything: these are far from it.
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


@pytest.fixture(params=CONFIGS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CONFIGS[request.param]


@torch.no_grad()
def told(model: Model, batch: Batch) -> torch.Tensor:
    return torch.log_softmax(model.logits(model.forward(batch)), -1)


def counts(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.targets.shape[1]) < batch.target_lengths[:, None]


def test_a_row_gives_the_same_alone_and_in_a_batch(fields: dict[str, Any]) -> None:
    model, rows = make_model(**fields), rows_of(config_of(**fields))
    together = told(model, batch_of(rows))
    assert together.shape == (4, 4 if fields["kind"] == "tagger" else 1, SIZES.vocabulary)
    for at, row in enumerate(rows):
        alone = told(model, batch_of([row]))[0]
        assert torch.allclose(together[at, : len(alone)], alone, atol=1e-5)


def test_more_padding_changes_nothing(fields: dict[str, Any]) -> None:
    model, batch = make_model(**fields), batch_of(rows_of(config_of(**fields)))
    frames_of_padding = (*(0, 0) * (batch.features.dim() - 2), 0, 2)
    padded = replace(
        batch, features=pad(batch.features, frames_of_padding), source=pad(batch.source, (0, 3))
    )
    expected, at = told(model, batch), counts(batch)
    longer = told(model, padded)[:, : expected.shape[1]]
    assert torch.allclose(expected[at], longer[at], atol=1e-5)


def test_every_parameter_learns(fields: dict[str, Any]) -> None:
    model, batch = make_model(**fields), batch_of(rows_of(config_of(**fields)))
    loss, _, _ = SequenceLoss(model.train(), SIZES.vocabulary)(batch)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_alone(fields: dict[str, Any]) -> None:
    model, batch = make_model(**fields), batch_of(rows_of(config_of(**fields)))
    assert torch.equal(told(model, batch), told(model, batch))
    model.train()
    assert not torch.equal(told(model, batch), told(model, batch))


def test_parameters_of_each_vocabulary_have_a_row_for_each_of_its_tokens(
    fields: dict[str, Any],
) -> None:
    model = make_model(**fields)
    rows = {name: len(parameter) for name, parameter in model.named_parameters()}
    sides = model.vocabulary_parameters()
    reads = fields["kind"] == "classifier" or fields.get("uses") in (None, "both", "question")
    has_words = fields["kind"] != "tagger" and reads
    assert set(sides.values()) == ({"source", "target"} if has_words else {"target"})
    for name, side in sides.items():
        assert rows[name] == (SIZES.vocabulary if side == "target" else SIZES.source_vocabulary)
    assert len(sides) == 2 + has_words


def test_features_of_another_scale_are_the_same_once_measured(fields: dict[str, Any]) -> None:
    rows = rows_of(config_of(**fields))
    if rows[0].features is None:
        return
    model, batch = make_model(**fields), batch_of(rows)
    expected, at = told(model, batch), counts(batch)
    measured = frames(1, grid=rows[0].features.ndim == 3)
    model.fit_normalizer([torch.tensor(1000 * f + 7) for f in measured])
    scaled = batch_of([replace(row, features=1000 * row.features + 7) for row in rows])
    assert torch.allclose(told(model, scaled)[at], expected[at], atol=1e-3)


def test_a_classifier_hides_words_in_training_alone() -> None:
    model = make_model(kind="classifier", dropout=0.0, word_dropout=0.5)
    rows = [Row(source=[4, 5, 6]), Row(source=[7])]
    hidden = [Row(source=[UNK_ID] * 3), Row(source=[UNK_ID])]
    as_they_are, all_hidden = (told(model, batch_of(some)) for some in (rows, hidden))
    assert not torch.allclose(as_they_are, all_hidden, atol=1e-2)
    model.train()
    seen = torch.stack([told(model, batch_of(rows)) for _ in range(40)])
    # One word: it is hidden or it is not.
    kept = (seen[:, 1] - as_they_are[1]).abs().amax((1, 2)) < 1e-5
    gone = (seen[:, 1] - all_hidden[1]).abs().amax((1, 2)) < 1e-5
    assert (kept | gone).all() and 8 <= kept.sum() <= 32


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_tagger_sees_later_frames_only_if_it_reads_both_ways(bidirectional: bool) -> None:
    model = make_model(kind="tagger", bidirectional=bidirectional)
    film = frames()[2]
    other = film.copy()
    other[-1] += 1
    one, two = (told(model, batch_of([Row(features)]))[0] for features in (film, other))
    assert torch.allclose(one[0], two[0], atol=1e-6) != bidirectional
    assert not torch.allclose(one[-1], two[-1], atol=1e-3)


@pytest.mark.parametrize("uses", ["both", "question", "image"])
def test_vqa_answers_from_what_it_uses(uses: str) -> None:
    model = make_model(kind="vqa", fused_size=8, uses=uses)
    seen, other_seen = frames()[0], frames(2)[0]
    asked = told(model, batch_of([Row(seen, [4, 5])]))
    of_another_image = told(model, batch_of([Row(other_seen, [4, 5])]))
    another_question = told(model, batch_of([Row(seen, [5, 4])]))
    assert torch.allclose(asked, of_another_image, atol=1e-3) == (uses == "question")
    assert torch.allclose(asked, another_question, atol=1e-3) == (uses == "image")


@torch.no_grad()
def test_each_hop_attends_to_the_cells_of_its_own_row() -> None:
    model = make_model(**CONFIGS["vqa, two hops"])
    batch = batch_of(rows_of(config_of(**CONFIGS["vqa, two hops"])))
    weights = model.attention_hops(batch)
    assert weights is not None
    assert weights.shape == (4, 2, max(NUM_FRAMES) * CELLS)
    assert torch.allclose(weights.sum(2), torch.ones(4, 2))
    for row, num in enumerate(NUM_FRAMES):
        assert (weights[row, :, : num * CELLS] > 0).all()
        assert not weights[row, :, num * CELLS :].any()
    assert not torch.allclose(weights[:, 0], weights[:, 1], atol=1e-3)


@torch.no_grad()
def test_a_hop_adds_what_it_attends_to_to_its_query() -> None:
    model = make_model(**CONFIGS["vqa, one hop"])
    assert isinstance(model, StackedAttention)
    batch = batch_of(rows_of(config_of(**CONFIGS["vqa, one hop"])))
    cells, _ = standardize_cells(batch, model.scale_cells, model.channels)
    values = torch.tanh(model.project_cells(cells))
    context = torch.bmm(model.attention_hops(batch), values)
    assert torch.allclose(model(batch), model.read_question(batch)[:, None] + context, atol=1e-5)
