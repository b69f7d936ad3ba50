"""Transforms of training batches: weights, and tokens or sentences sampled from the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intertitle.training.config.recipe import Recipe
from intertitle.training.data.batch import Batch
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.models.base import MAX_LOGITS, Generator, Model
from intertitle.training.search.cider import CiderReward
from intertitle.training.search.constraints import NEVER_GENERATED

MIN_CONSENSUS_WEIGHT = 0.1


class BatchTransform(Protocol):
    """A transform that is applied to a batch before its loss is computed."""

    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        """Return a transformed batch with the same number of rows.

        Args:
            batch: batch with the reference targets.
            examples: number of each row's example in the training split.
            done: completed fraction of the training, 0..1.
        """
        ...


def make_batch_transform(
    recipe: Recipe, model: Model, train: Dataset | LanguageModelDataset
) -> BatchTransform | None:
    """Return the transform of a recipe's objective; None if the references are the targets."""
    if recipe.objective.kind in ("teacher_forcing", "consensus"):
        return None
    assert isinstance(model, Generator)
    assert isinstance(train, Dataset)
    vocabulary = len(train.vocabularies.target)
    if recipe.objective.kind == "scheduled_sampling":
        return ScheduledSampling(model, vocabulary, recipe.objective.max_share)
    return SelfCritical(model, vocabulary, train.references(), recipe.search.max_tokens)


def consensus_weights(references: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.float32]:
    """Weight each sentence by its agreement with the other references of the same example.

    This is the WXE of Phan et al. 2017, "Consensus-based sequence training for video captioning".
    The weight is the sentence's CIDEr-D against the other references of its example, relative to
    the mean over them, but at least `MIN_CONSENSUS_WEIGHT`, so that unusual sentences are still
    trained on. The only reference of an example has weight 1.

    Args:
        references: token sequences of each training example, without <bos> and <eos>.

    Returns:
        The weights of all sentences, example by example, [rows].
    """
    groups = [group for group in references if len(group) > 1]
    other_references = [
        [*group[:k], *group[k + 1 :]] for group in groups for k in range(len(group))
    ]
    sentences = [ids for group in groups for ids in group]
    scores = np.zeros(0)
    if sentences:
        scores = CiderReward(other_references).score(range(len(sentences)), sentences)
    scored = iter(scores.tolist())
    weights: list[float] = []
    for group in references:
        if len(group) > 1:
            group_scores = [next(scored) for _ in group]
            mean = sum(group_scores) / len(group)
            weights += [
                max(MIN_CONSENSUS_WEIGHT, score / mean) if mean else 1.0 for score in group_scores
            ]
        else:
            weights += [1.0] * len(group)
    return np.array(weights, np.float32)


class ScheduledSampling:
    """Replaces a growing share of the input tokens by the model's own (Bengio et al. 2015).

    It takes two passes over whole sequences (Mihaylova & Martins 2019; Duckworth et al. 2019,
    "Parallel scheduled sampling"): the first pass reads the reference tokens, and the replacements
    in the input of the second pass are sampled from the predictions of the first. Each token is
    replaced independently with probability `max_share * done`. Replacements are tokens that a
    search could continue with, so neither <eos> nor <unk>. Targets are unchanged. The model stays
    in training mode, with its dropout.

    Args:
        model: model that is trained.
        vocabulary: size of the vocabulary, V.
        max_share: share of the tokens that is replaced at the end of the training.
    """

    def __init__(self, model: Generator[Any], vocabulary: int, max_share: float) -> None:
        self._model, self._max_share = model, max_share
        self._portion = max(1, MAX_LOGITS // vocabulary)

    @torch.no_grad()
    def __call__(self, batch: Batch, examples: Sequence[int], done: float) -> Batch:
        del examples
        position = torch.arange(batch.inputs.shape[1], device=batch.inputs.device)
        is_word = (position > 0) & (position < batch.target_lengths[:, None])
        chances = torch.rand(batch.inputs.shape, device=batch.inputs.device)
        replaced = is_word & (chances < self._max_share * done)
        if not replaced.any():
            return batch
        # The token at a position is predicted by the step before it.
        hidden = self._model.forward(batch)[:, :-1][replaced[:, 1:]]
        inputs = batch.inputs.clone()
        inputs[replaced] = torch.cat(
            [self._draw(part) for part in torch.split(hidden, self._portion)]
        )
        return batch.with_inputs(inputs)

    def _draw(self, hidden: Tensor) -> Tensor:
        """Sample a token for each of N positions, [N, H] -> [N]."""
        logits = self._model.logits(hidden).float()
        logits[:, [*NEVER_GENERATED, EOS_ID]] = -torch.inf
        return torch.multinomial(logits.softmax(-1), 1)[:, 0]


class SelfCritical:
    """Replaces targets by sampled sentences, weighted by their reward relative to greedy search.

    This is self-critical sequence training (Rennie et al. 2017, "Self-critical sequence training";
    REINFORCE, Williams 1992).

    A sentence is sampled for each row. Its weight is its CIDEr-D minus that of the sentence that
    greedy search finds for the same example, and the loss is the sum of weight * -log p. Its
    gradient is the negative gradient of the expected reward, but only if sentences are sampled from
    exactly the distribution that is differentiated. Therefore tokens are sampled from the full
    softmax, including <unk>, which earns no reward, and the model must have no dropout, which
    `check_recipe` checks.

    <eos> is a token of the references and of the sentences: a sentence that was cut off lacks it.

    Args:
        model: model that is trained; without dropout.
        vocabulary: size of the vocabulary, V.
        references: token sequences of each training example, without <bos> and <eos>.
        max_tokens: maximum number of tokens to generate for a sentence.
    """

    def __init__(
        self,
        model: Generator[Any],
        vocabulary: int,
        references: Sequence[Sequence[Sequence[int]]],
        max_tokens: int,
    ) -> None:
        self._model, self._max_tokens = model, max_tokens
        # Unknown words of the references get an id that no sentence of the model can have.
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
        tokens, lengths = self._write(batch, list(firsts.values()))
        sentences = [
            ids[:length] for ids, length in zip(tokens.tolist(), lengths.tolist(), strict=True)
        ]
        rewards = self._reward.score([*examples, *firsts], sentences)
        greedy = dict(zip(firsts, rewards[len(batch) :], strict=True))
        advantages = [
            reward - greedy[n] for reward, n in zip(rewards[: len(batch)], examples, strict=True)
        ]
        num_targets = lengths[: len(batch)]
        targets = tokens[: len(batch), : int(num_targets.max())]
        inputs = torch.cat([torch.full_like(targets[:, :1], BOS_ID), targets[:, :-1]], 1)
        position = torch.arange(targets.shape[1], device=targets.device)
        return replace(
            batch,
            inputs=inputs.masked_fill(position >= num_targets[:, None], PAD_ID),
            targets=targets,
            target_lengths=num_targets,
            weights=batch.weights * batch.weights.new_tensor(advantages),
        )

    def _write(self, batch: Batch, greedy: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sample a sentence for each of B rows, and run greedy search for some of them.

        Args:
            batch: B rows.
            greedy: rows to run greedy search for.

        Returns:
            Tokens with <eos>, then PAD_ID, [B + len(greedy), L], the greedy ones last; and their
            numbers, [B + len(greedy)].
        """
        num_sampled, device = len(batch), batch.targets.device
        rows = torch.tensor([*range(num_sampled), *greedy], device=device)
        state = self._model.start(batch).select(rows)
        tokens = torch.full_like(rows, BOS_ID)
        lengths = torch.zeros_like(rows)
        active = torch.ones_like(rows, dtype=torch.bool)
        columns: list[Tensor] = []
        while active.any() and len(columns) < self._max_tokens:
            log_probs, state = self._model.step(state, tokens)
            log_probs[num_sampled:, NEVER_GENERATED] = -torch.inf
            sampled = torch.multinomial(log_probs[:num_sampled].exp(), 1)[:, 0]
            tokens = torch.cat([sampled, log_probs[num_sampled:].argmax(1)]).masked_fill(
                ~active, PAD_ID
            )
            columns.append(tokens)
            lengths += active
            active &= tokens != EOS_ID
        return torch.stack(columns, 1), lengths
