"""Loops with the arithmetic of a recipe and nothing else, that ours are measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import PAD_ID

FEATURE_DIM = 1280


class BareTranslation(nn.Module):
    """The arithmetic of `seq2seq_attention`, and nothing else: padding is read like words."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.source = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
        self.words = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(embedding, hidden, batch_first=True)
        self.bridge = nn.Linear(2 * hidden, 2 * hidden)
        self.query = nn.Linear(hidden, 2 * hidden, bias=False)
        self.combine = nn.Linear(3 * hidden, hidden)
        self.likeness = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(0.4)

    def forward(self, batch: Batch) -> torch.Tensor:
        memory, (h, _) = self.encoder(self.dropout(self.source(batch.source)))
        start = self.bridge(torch.cat([*h], 1)).chunk(2, 1)
        state = (torch.tanh(start[0])[None], start[1][None].contiguous())
        outputs = self.dropout(self.decoder(self.dropout(self.words(batch.inputs)), state)[0])
        memory = self.dropout(memory)
        weights = torch.bmm(self.query(outputs), memory.transpose(1, 2)).softmax(-1)
        hidden = torch.tanh(self.combine(torch.cat([torch.bmm(weights, memory), outputs], 2)))
        hidden = hidden.flatten(0, 1).index_select(0, batch.target_places)
        targets = batch.targets.flatten().index_select(0, batch.target_places)
        logits = linear(self.likeness(self.dropout(hidden)), self.words.weight, self.bias)
        loss: torch.Tensor = cross_entropy(logits, targets, label_smoothing=0.1)
        return loss


class Bare(nn.Module):
    """The same arithmetic, and nothing else.

    Args:
        how: "whole" sequences in one call, "packed" ones, a loop of "steps", or "padded" ones:
            whole, and what is padding is told too.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, how: str) -> None:
        super().__init__()
        self.image = nn.Linear(FEATURE_DIM, embedding)
        self.words = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.likeness = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(0.5)
        self.how = how

    def forward(self, batch: Batch) -> torch.Tensor:
        image = self.dropout(self.image(batch.features[:, 0]))[:, None]
        if self.how == "steps":
            return self._step_by_step(image, batch)
        words = self.dropout(self.words(batch.inputs))
        outputs = self._run(torch.cat([image, words], 1), batch.target_lengths + 1)[:, 1:]
        if self.how == "padded":
            return self._loss(outputs.flatten(0, 1), batch.targets.flatten())
        counts = batch.targets != PAD_ID
        return self._loss(outputs[counts], batch.targets[counts])

    def _loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        told = self.likeness(self.dropout(outputs))
        logits = nn.functional.linear(told, self.words.weight, self.bias)
        loss: torch.Tensor = cross_entropy(
            logits, targets, label_smoothing=0.1, ignore_index=PAD_ID
        )
        return loss

    def _step_by_step(self, image: torch.Tensor, batch: Batch) -> torch.Tensor:
        _, state = self.lstm(image)
        losses = []
        for step in range(batch.inputs.shape[1]):
            words = self.dropout(self.words(batch.inputs[:, step : step + 1]))
            output, state = self.lstm(words, state)
            losses.append(self._loss(output[:, 0], batch.targets[:, step]))
        mean: torch.Tensor = torch.stack(losses).nanmean()
        return mean

    def _run(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.how != "packed":
            whole: torch.Tensor = self.lstm(inputs)[0]
            return whole
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs: torch.Tensor = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=inputs.shape[1]
        )[0]
        return outputs


def bare_step(model: Bare, batches: list[Batch]) -> Callable[[int], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = model(batches[number])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step
