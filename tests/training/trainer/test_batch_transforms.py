"""Batches with words and sentences of the model's own."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.search.beam import beam
from intertitle.training.search.cider import CiderReward
from intertitle.training.trainer import batch_transforms
from intertitle.training.trainer.batch_transforms import (
    MIN_CONSENSUS_WEIGHT,
    BatchTransform,
    ScheduledSampling,
    SelfCritical,
    consensus_weights,
    make_batch_transform,
)
from intertitle.training.trainer.losses import SequenceLoss
from tests.training.conftest import make_loop, questions, small_recipe, split_of

VOCABULARY, MAX_TOKENS = 9, 5
NO_NOISE = ("model.dropout=0", "model.feature_dropout=0", "optimizer.label_smoothing=0")
SELF_CRITICAL = (*NO_NOISE, "objective.kind=self_critical")


@pytest.fixture
def model() -> Generator[Any]:
    torch.manual_seed(1)
    model = build_model(small_recipe("s2vt", *NO_NOISE).model, Sizes(VOCABULARY, 0, 3))
    # Fresh weights say nearly the same of everything: these are far from it.
    for parameter in model.parameters():
        parameter.data.mul_(3)
    assert isinstance(model, Generator)
    return model


def batch_of(*sentences: Sequence[int]) -> Batch:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(1 + n % 3, 3)).astype(np.float32) for n in range(len(sentences))]
    rows = zip(features, sentences, strict=True)
    return make_batch([Row(some, (), words) for some, words in rows], sentences=True)


def repeated(batch: Batch, row: int, times: int) -> Batch:
    """One row of a batch, many times."""
    rows = torch.full((times,), row)
    return Batch(**{f.name: getattr(batch, f.name)[rows] for f in fields(Batch) if f.init})


def shares(drawn: Tensor) -> Tensor:
    """How often each word is drawn."""
    return torch.bincount(drawn, minlength=VOCABULARY) / len(drawn)


def test_nothing_is_replaced_before_the_training_begins(model: Generator[Any]) -> None:
    batch = batch_of([4, 5, 6], [7], [])
    assert ScheduledSampling(model, VOCABULARY, 0.9)(batch, [0, 1, 2], 0.0) is batch


def test_replaced_words_are_drawn_from_what_the_model_told_there(model: Generator[Any]) -> None:
    torch.manual_seed(0)
    batch = repeated(batch_of([4, 5, 6]), 0, 20_000)
    changed = ScheduledSampling(model, VOCABULARY, 0.8)(batch, range(len(batch)), 0.5)
    names = [field.name for field in fields(Batch) if field.init]
    assert {n: getattr(changed, n) is getattr(batch, n) for n in names} == {
        name: name != "inputs" for name in names
    }
    with torch.no_grad():
        told = model.logits(model.forward(batch)[0]).softmax(-1)
    told[:, [PAD_ID, BOS_ID, EOS_ID, UNK_ID]] = 0
    told /= told.sum(1, keepdim=True)
    for place, right in ((1, 4), (2, 5), (3, 6)):
        expected = 0.4 * told[place - 1]
        expected[right] += 0.6
        assert torch.allclose(shares(changed.inputs[:, place]), expected, atol=0.02)


def test_the_beginning_and_the_padding_are_never_replaced(model: Generator[Any]) -> None:
    torch.manual_seed(0)
    batch = batch_of(*[[4, 5, 6], [7], [], [8, 8]] * 50)
    lesson = ScheduledSampling(model, VOCABULARY, 0.99)
    inputs = lesson(batch, range(len(batch)), 1.0).inputs
    is_word = batch.inputs >= UNK_ID
    assert torch.equal(inputs[~is_word], batch.inputs[~is_word])
    assert (inputs[is_word] > UNK_ID).all()
    assert (inputs != batch.inputs)[is_word].float().mean() > 0.5


def test_no_portion_of_replaced_words_has_more_logits_than_allowed(
    model: Generator[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(*[[4, 5, 6]] * 20)
    sizes: list[int] = []
    logits = model.logits

    def note(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(model, "logits", note)
    drawn = {}
    for max_logits, most in ((1, 1), (5 * VOCABULARY, 5), (5 * VOCABULARY - 1, 4)):
        monkeypatch.setattr(batch_transforms, "MAX_LOGITS", max_logits)
        torch.manual_seed(0)
        lesson = ScheduledSampling(model, VOCABULARY, 0.9)
        drawn[most] = lesson(batch, range(20), 1.0).inputs != batch.inputs
        assert max(sizes) == most
        sizes.clear()
    assert all(part.any() for part in drawn.values())


REFERENCES = [[[4, 5, 6], [4, 5]], [[7, UNK_ID, 8]], [[5, 5, 4]]]


def by_hand(ids: Sequence[int], max_tokens: int) -> list[int]:
    """A sentence as it is rewarded: with its end if it has come to one."""
    return [*ids, EOS_ID] if len(ids) < max_tokens else list(ids)


def test_the_gradient_is_reinforce_with_the_greedy_sentence_as_its_baseline(
    model: Generator[Any],
) -> None:
    torch.manual_seed(0)
    examples = [2, 0, 1, 0, 2, 0, 2, 2, 1, 0]
    batch = batch_of(*[[4, 5]] * len(examples))
    # Rows of one example show the same.
    batch = replace(
        batch, features=batch.features[examples], frame_lengths=batch.frame_lengths[examples]
    )
    lesson = SelfCritical(model, VOCABULARY, REFERENCES, MAX_TOKENS)
    learned = lesson(batch, examples, 0.5)
    loss, _, _ = SequenceLoss(model, VOCABULARY)(learned)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    # People's unknown word is no word that the model could write.
    known = [[[99 if t == UNK_ID else t for t in ids] for ids in group] for group in REFERENCES]
    reward = CiderReward([[[*ids, EOS_ID] for ids in group] for group in known])
    greedy = [
        by_hand(row[0].token_ids, MAX_TOKENS) for row in beam(model, batch, 1, MAX_TOKENS, 0.0)
    ]
    drawn = [
        learned.targets[row, :n].tolist() for row, n in enumerate(learned.target_lengths.tolist())
    ]
    gains = reward.score(examples, drawn) - reward.score(examples, greedy)
    assert np.count_nonzero(gains) >= 3
    expected = torch.zeros(())
    state, tokens = model.start(batch), torch.full((len(examples),), BOS_ID)
    for step in range(learned.targets.shape[1]):
        log_probs, state = model.step(state, tokens)
        tokens = learned.targets[:, step]
        for row in range(len(examples)):
            if step < len(drawn[row]):
                expected = expected - gains[row] * log_probs[row, tokens[row]]
    torch.autograd.backward(expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, atol=1e-4, rtol=1e-3), name


def test_sentences_are_drawn_from_all_that_the_model_tells(model: Generator[Any]) -> None:
    torch.manual_seed(0)
    batch = repeated(batch_of([4]), 0, 20_000)
    lesson = SelfCritical(model, VOCABULARY, REFERENCES, MAX_TOKENS)
    learned = lesson(batch, [0] * len(batch), 0.0)
    with torch.no_grad():
        first, state = model.step(model.start(batch_of([4])), torch.tensor([BOS_ID]))
        second, _ = model.step(state, torch.tensor([7]))
    assert torch.allclose(shares(learned.targets[:, 0]), first[0].exp(), atol=0.02)
    after = learned.targets[learned.targets[:, 0] == 7, 1]
    assert len(after) > 500
    assert torch.allclose(shares(after), second[0].exp(), atol=0.05)


def test_a_drawn_sentence_is_a_row_as_any_other(model: Generator[Any]) -> None:
    torch.manual_seed(0)
    batch = batch_of(*[[4]] * 64)
    lesson = SelfCritical(model, VOCABULARY, REFERENCES, MAX_TOKENS)
    learned = lesson(batch, [n % 3 for n in range(64)], 0.0)
    assert learned.features is batch.features
    lengths = learned.target_lengths.tolist()
    assert set(lengths) >= {1, 2, MAX_TOKENS}
    for row, length in enumerate(lengths):
        targets = learned.targets[row].tolist()
        assert EOS_ID not in targets[: length - 1]
        assert targets[length - 1] == EOS_ID or length == MAX_TOKENS
        assert learned.inputs[row].tolist()[:length] == [BOS_ID, *targets[: length - 1]]
        rest = [PAD_ID] * (learned.targets.shape[1] - length)
        assert learned.inputs[row].tolist()[length:] == targets[length:] == rest


def teach(
    model: Generator[Any], train: Dataset, lesson: BatchTransform | None, *, steps: int, rate: float
) -> None:
    forcing = SequenceLoss(model, len(train.vocabularies.target))
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        rows = np.random.default_rng(step).choice(len(train), 24, replace=False)
        batch = train.batch(rows)
        torch.manual_seed(step)
        if lesson:
            batch = lesson(batch, train.example_index(rows), step / steps)
        optimizer.zero_grad()
        loss: Tensor = forcing(batch)[0] / train.num_targets(rows)
        torch.autograd.backward(loss)
        optimizer.step()


def test_a_captioner_earns_more_by_its_own_sentences(things: DataRef, words: Vocabs) -> None:
    train = split_of(things, "train", words)
    torch.manual_seed(0)
    model = build_model(small_recipe("show_and_tell", *NO_NOISE).model, sizes_of(words, things))
    assert isinstance(model, Generator)
    model.fit_normalizer([torch.tensor(features) for features in train.sample_features(100)])
    references, everything = train.references(), range(len(train.examples))
    lesson = SelfCritical(model, len(words.target), references, 8)
    reward = CiderReward([[[*ids, EOS_ID] for ids in group] for group in references])

    def earned() -> float:
        """The mean reward of drawn sentences: what the training is to raise."""
        torch.manual_seed(0)
        told = lesson(questions(train, everything), everything, 0.0)
        lengths = told.target_lengths.tolist()
        drawn = [row[:n] for row, n in zip(told.targets.tolist(), lengths, strict=True)]
        return float(reward.score(everything, drawn).mean())

    teach(model, train, None, steps=80, rate=1e-2)
    before = earned()
    teach(model, train, lesson, steps=200, rate=5e-3)
    assert 2 < before < earned() - 1


def test_the_loop_counts_the_words_that_were_drawn(things: DataRef, words: Vocabs) -> None:
    recipe = small_recipe("s2vt", *SELF_CRITICAL, "search.max_tokens=1")
    loop = make_loop(things, words, recipe)
    _, tokens, _ = loop.train_step(np.arange(7), 0.1).tolist()
    assert tokens == 7


def test_a_sentence_counts_as_much_as_the_others_agree_with_it() -> None:
    group = [[4, 5, 6, 7], [4, 5, 6, 8], [4, 5, 6, 7, 9], [10, 11, 12, 13]]
    weights = consensus_weights([group, [[14, 15, 16]], [[17, 18, 19], [20, 21, 22]]]).tolist()
    # What nobody else says counts least; what is alone, or where none agree, is as it was.
    assert MIN_CONSENSUS_WEIGHT == 0.1
    assert weights[3] == pytest.approx(MIN_CONSENSUS_WEIGHT)
    assert weights[0] > weights[2] > weights[1] > 0.5
    assert weights[4:] == [1, 1, 1]
    # CIDEr-D against the others, beside its mean.
    others = [[*group[:k], *group[k + 1 :]] for k in range(4)] + [[[20, 21, 22]], [[17, 18, 19]]]
    scores = CiderReward(others).score(range(6), [*group, [17, 18, 19], [20, 21, 22]])[:4]
    assert weights[:4] == pytest.approx(np.maximum(0.1, scores / scores.mean()))


def test_without_a_second_reference_every_sentence_counts_alike() -> None:
    assert consensus_weights([[[4, 5]], [[6]]]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kind", "transform"),
    [
        ("teacher_forcing", None),
        ("consensus", None),
        ("scheduled_sampling", ScheduledSampling),
        ("self_critical", SelfCritical),
    ],
)
def test_an_objective_has_its_transform(
    kind: str, transform: type | None, things: DataRef, words: Vocabs
) -> None:
    recipe = small_recipe("show_and_tell", *NO_NOISE, f"objective.kind={kind}")
    model = build_model(recipe.model, sizes_of(words, things))
    made = make_batch_transform(recipe, model, split_of(things, "train", words))
    assert made is None if transform is None else type(made) is transform
