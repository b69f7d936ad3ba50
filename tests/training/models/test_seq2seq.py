"""What the two stacks pass to each other."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from intertitle.training.config.models import Seq2SeqConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.rnn import reverse_within
from intertitle.training.models.seq2seq import Seq2Seq

SOURCES = ([4, 5, 4, 8], [6], [7, 8])


def make(**fields: Any) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 7, "dropout": 0.3}
    config = Seq2SeqConfig(kind="seq2seq", **{**sizes, **fields})
    model = build_model(config, Sizes(vocabulary=11, source_vocabulary=9))
    assert isinstance(model, Seq2Seq)
    return model.eval()


def batch() -> Batch:
    return make_batch([Row(None, source, [4, 5, 6]) for source in SOURCES], sentences=True)


@torch.no_grad()
def test_reversed_it_reads_each_source_from_its_own_end() -> None:
    model, mirrored = make(reversed=True), make()
    mirrored.load_state_dict(model.state_dict())
    backwards = replace(batch(), source=reverse_within(batch().source, batch().source_lengths))
    assert torch.allclose(model.forward(batch()), mirrored.forward(backwards), atol=1e-6)
    assert not torch.allclose(model.forward(batch()), mirrored.forward(batch()), atol=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@torch.no_grad()
def test_a_source_read_one_way_hands_its_last_state_over(cell: str) -> None:
    model = make(cell=cell, num_layers=2)
    began = model.start(batch()).writing
    alone = model.source(torch.tensor(SOURCES[2]))[None]
    _, ended = model.encoder(alone)
    assert torch.allclose(began.h[:, 2], ended.h[:, 0], atol=1e-6)
    if cell == "lstm":
        assert torch.allclose(began.c[:, 2], ended.c[:, 0], atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_source_read_both_ways_reaches_every_layer_from_both_ends(cell: str) -> None:
    model = make(cell=cell, num_layers=2, bidirectional=True)
    seen: list[torch.Tensor] = []
    model.source.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    began = model.start(batch()).writing
    assert began.h.shape == (2, 3, 7)
    for state in [began.h] if began.c is None else [began.h, began.c]:
        for layer in state:
            (gradient,) = torch.autograd.grad(layer[0].sum(), seen, retain_graph=True)
            assert gradient[0].any(1).all()
            assert not gradient[1:].any()


@torch.no_grad()
def test_attention_alone_tells_sources_apart_whose_ends_are_hidden() -> None:
    model = make(attention="multiplicative")
    one, other = (
        model.start(batch()),
        model.start(replace(batch(), source=batch().source.flip(0))),
    )
    same_beginning = replace(other, writing=one.writing)
    words = torch.tensor([4, 4, 4])
    told, _ = model.advance(one, words)
    elsewhere, _ = model.advance(same_beginning, words)
    assert not torch.allclose(told, elsewhere, atol=1e-4)
    assert make().start(batch()).memory is None


def test_both_languages_embeddings_are_named_by_whose_words_they_hold() -> None:
    assert make().vocabulary_parameters() == {
        "source.weight": "source",
        "words.embedding.weight": "target",
        "words.bias": "target",
    }


def test_every_weight_begins_within_the_initial_scale() -> None:
    model = make(initial_scale=0.08, bidirectional=True, attention="additive")
    largest = [float(p.detach().abs().max()) for p in model.parameters()]
    assert max(largest) <= 0.08
    assert min(largest) > 0.01
