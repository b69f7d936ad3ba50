"""What becomes of a batch before it is learned from: words and sentences of the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from training.config import Recipe
from training.data.batch import Batch
from training.data.dataset import Dataset
from training.data.stream import StreamDataset
from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from training.evaluation.reward import CiderReward
from training.evaluation.rules import NEVER_WRITTEN
from training.models.generator import Generator, Model
from training.objectives import MAX_LOGITS

LEAST_CONSENSUS = 0.1


class Lesson(Protocol):
    """What becomes of a batch before it is learned from."""

    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        """Another batch of as many rows.

        Args:
            batch: with the right targets.
            examples: that the rows are of, by their number in the training split.
            done: share of the training, 0..1.
        """
        ...


def make_lesson(recipe: Recipe, model: Model, train: Dataset | StreamDataset) -> Lesson | None:
    """What a recipe does to its batches; None if it learns from them as they are."""
    if recipe.objective.kind == "teacher_forcing":
        return None
    assert isinstance(model, Generator)
    assert isinstance(train, Dataset)
    if recipe.objective.kind == "consensus":
        return Consensus(train.references())
    vocabulary = len(train.vocabularies.target)
    if recipe.objective.kind == "scheduled_sampling":
        return ScheduledSampling(model, vocabulary, recipe.objective.max_share)
    return SelfCritical(model, vocabulary, train.references(), recipe.search.max_tokens)


class Consensus:
    """A sentence counts as much as the others about the same thing agree with it (Phan et al. 2017,
    "Consensus-based sequence training for video captioning", their WXE).

    Its weight is its CIDEr-D against the other references of its example, relative to the mean over
    them, but at least `LEAST_CONSENSUS`: what nobody else says is not forgotten. A sentence that is
    alone has weight 1.

    Args:
        references: of each training example, as tokens without <bos> and <eos>.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        self._weights: dict[tuple[int, tuple[int, ...]], float] = {}
        several = [(n, group) for n, group in enumerate(references) if len(group) > 1]
        others = [[*group[:k], *group[k + 1 :]] for _, group in several for k in range(len(group))]
        if not others:
            return
        sentences = [ids for _, group in several for ids in group]
        scores = iter(CiderReward(others).score(range(len(others)), sentences).tolist())
        for n, group in several:
            agreed = [next(scores) for _ in group]
            mean = sum(agreed) / len(agreed)
            for ids, score in zip(group, agreed, strict=True):
                weight = max(LEAST_CONSENSUS, score / mean) if mean else 1.0
                self._weights[n, tuple(ids)] = weight

    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        del done
        rows = zip(examples, batch.targets.tolist(), batch.num_targets.tolist(), strict=True)
        weights = [self._weights.get((n, tuple(ids[: count - 1])), 1.0) for n, ids, count in rows]
        return replace(batch, weights=batch.weights * batch.weights.new_tensor(weights))


class ScheduledSampling:
    """A growing share of the words that are read are the model's own (Bengio et al. 2015).

    In two passes over whole sequences (Mihaylova & Martins 2019; Duckworth et al. 2019, "Parallel
    scheduled sampling"): the first reads the right words, and what the second reads in their place
    is drawn from what the first told. A word is drawn independently with probability
    `max_share * done`, from the words that search would go on with, so neither <eos> nor <unk>.
    Targets stay what they were. The model is as it is: in training, with its dropout.

    Args:
        model: that learns.
        vocabulary: V.
        max_share: of the words, at the end of the training.
    """

    def __init__(self, model: Generator[Any], vocabulary: int, max_share: float) -> None:
        self._model, self._max_share = model, max_share
        self._portion = max(1, MAX_LOGITS // vocabulary)

    @torch.no_grad()
    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        del examples
        place = torch.arange(batch.inputs.shape[1], device=batch.inputs.device)
        is_word = (place > 0) & (place < batch.num_targets[:, None])
        chances = torch.rand(batch.inputs.shape, device=batch.inputs.device)
        replaced = is_word & (chances < self._max_share * done)
        if not replaced.any():
            return batch
        # A word stands where the step before it told it.
        told = self._model.hidden(batch)[:, :-1][replaced[:, 1:]]
        inputs = batch.inputs.clone()
        inputs[replaced] = torch.cat(
            [self._draw(part) for part in torch.split(told, self._portion)]
        )
        return replace(batch, inputs=inputs)

    def _draw(self, told: Tensor) -> Tensor:
        """A word for each of N places, [N, H] -> [N]."""
        logits = self._model.logits(told).float()
        logits[:, [*NEVER_WRITTEN, EOS_ID]] = -torch.inf
        return torch.multinomial(logits.softmax(-1), 1)[:, 0]


class SelfCritical:
    """Sentences of the model's own, each weighted by how much better it is than the greedy one
    (Rennie et al. 2017, "Self-critical sequence training"; REINFORCE, Williams 1992).

    A row's sentence is drawn, its weight is CIDEr-D of it less that of the sentence that greedy
    search finds for the same example, and the loss is the sum of weight * -log p: the gradient is
    that of the expected reward, with the sign turned. It is so only if a sentence is drawn from
    just what is differentiated. So the draw is from all of the softmax, <unk> with it, which earns
    nothing, and there must be no dropout: `check.check_recipe` sees to that.

    <eos> is a word of the references and of the sentences: a sentence that is cut lacks it.

    Args:
        model: that learns; without dropout.
        vocabulary: V.
        references: of each training example, as tokens without <bos> and <eos>.
        max_tokens: of a sentence.
    """

    def __init__(
        self,
        model: Generator[Any],
        vocabulary: int,
        references: Sequence[Sequence[Sequence[int]]],
        max_tokens: int,
    ) -> None:
        self._model, self._max_tokens = model, max_tokens
        # An unknown word of people's, which no sentence of the model can have.
        self._reward = CiderReward(
            [
                [[vocabulary if t == UNK_ID else t for t in ids] + [EOS_ID] for ids in group]
                for group in references
            ]
        )

    @torch.no_grad()
    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        del done
        # Rows of one example share its greedy sentence.
        firsts = {example: row for row, example in reversed(list(enumerate(examples)))}
        words, lengths = self._write(batch, list(firsts.values()))
        sentences = [
            ids[:length] for ids, length in zip(words.tolist(), lengths.tolist(), strict=True)
        ]
        rewards = self._reward.score([*examples, *firsts], sentences)
        greedy = dict(zip(firsts, rewards[len(batch) :], strict=True))
        gains = [
            reward - greedy[n] for reward, n in zip(rewards[: len(batch)], examples, strict=True)
        ]
        num_targets = lengths[: len(batch)]
        targets = words[: len(batch), : int(num_targets.max())]
        before = torch.cat([torch.full_like(targets[:, :1], BOS_ID), targets[:, :-1]], 1)
        place = torch.arange(targets.shape[1], device=targets.device)
        return replace(
            batch,
            inputs=before.masked_fill(place >= num_targets[:, None], PAD_ID),
            targets=targets,
            num_targets=num_targets,
            weights=batch.weights * batch.weights.new_tensor(gains),
        )

    def _write(self, batch: Batch, greedy: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A sentence drawn for each of B rows, and below them the greedy ones of some rows.

        Returns:
            Words [B + len(greedy), L] with <eos>, PAD_ID after it, and their numbers.
        """
        drawn, device = len(batch), batch.targets.device
        rows = torch.tensor([*range(drawn), *greedy], device=device)
        state = self._model.start(batch).select(rows)
        tokens = torch.full_like(rows, BOS_ID)
        lengths = torch.zeros_like(rows)
        going = torch.ones_like(rows, dtype=torch.bool)
        words: list[Tensor] = []
        while going.any() and len(words) < self._max_tokens:
            log_probs, state = self._model.step(state, tokens)
            log_probs[drawn:, NEVER_WRITTEN] = -torch.inf
            chosen = torch.multinomial(log_probs[:drawn].exp(), 1)[:, 0]
            tokens = torch.cat([chosen, log_probs[drawn:].argmax(1)]).masked_fill(~going, PAD_ID)
            words.append(tokens)
            lengths += going
            going &= tokens != EOS_ID
        return torch.stack(words, 1), lengths
