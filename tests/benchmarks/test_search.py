"""Finding sentences: many at once against one at a time, a beam against greedy search, ours against
JoeyNMT's; drawing characters against other loops; and the share of an evaluation that is scoring.

JoeyNMT is compared with where it can be imported, if need be from JOEYNMT=FOLDER. Its package asks
for an old protobuf, so it gets a folder of its own, with what it imports beside ours:

    pip install --target FOLDER --no-deps joeynmt tensorboard absl-py importlib_metadata zipp \
      sentencepiece subword-nmt seaborn datasets
"""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.batch import Row, make_batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer
from intertitle.training.evaluation.evaluate import NUM_TEXTS, evaluate
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.search.beam import beam
from intertitle.training.search.generate import sample_stream
from tests.benchmarks.taught import Taught, teach

AT_ONCE, BEAM, ROUNDS = 64, 5, 5
# Of sentences that never end by themselves, so that every search takes as many steps.
ENDLESS_WORDS = 20
# Of a drawn text; half of what an evaluation draws, for the loop that reads all again.
NUM_CHARACTERS = 200


def race(ways: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each: the best of some rounds, in which all take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


@pytest.fixture(scope="module", autouse=True)
def threads() -> int:
    """As many as there are cores; beside other work OMP_NUM_THREADS=1 tells more."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    return torch.get_num_threads()


@pytest.fixture(scope="module")
def translator(threads: int, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return teach("seq2seq_attention", tmp_path_factory.mktemp("pairs"), 1000)


@pytest.fixture(scope="module")
def captioner(threads: int, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return teach("show_and_tell", tmp_path_factory.mktemp("photographs"), 1000)


@pytest.fixture(scope="module")
def looker(threads: int, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return teach("attend_and_tell", tmp_path_factory.mktemp("grids"), 200)


@contextmanager
def counted(layer: nn.Module) -> Iterator[list[int]]:
    """The rows of each step of a recurrent layer."""
    rows: list[int] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def told(rows: list[int]) -> str:
    return f"{len(rows)} steps, {sum(rows) / AT_ONCE:.0f} rows a sentence"


@pytest.mark.bench
@pytest.mark.parametrize("name", ["translator", "captioner", "looker"])
def test_a_beam_against_less(name: str, request: pytest.FixtureRequest) -> None:
    taught: Taught = request.getfixturevalue(name)
    batch, alone = taught.batch(range(AT_ONCE)), [taught.batch([n]) for n in range(AT_ONCE)]
    times = race(
        {
            "beam": lambda: taught.search(batch, BEAM),
            "beam alone": lambda: [taught.search(one, BEAM) for one in alone],
            "greedy": lambda: taught.search(batch, 1),
            "greedy alone": lambda: [taught.search(one, 1) for one in alone],
        }
    )
    stack = taught.model.decoder if name == "translator" else taught.model.stack
    with counted(stack) as rows:
        found = taught.search(batch, BEAM)
    with counted(stack) as greedy_rows:
        taught.search(batch, 1)
    num_words = np.mean([len(best.token_ids) for best, *_ in found])
    told_of = f"{taught.recipe.name} ({taught.device.type})"
    print(f"\n{told_of}, {AT_ONCE} at once, {num_words:.1f} words a sentence:")
    print(f"  a beam of {BEAM}: {AT_ONCE / times['beam']:.0f} sentences/s ({told(rows)})")
    print(f"  {times['beam alone'] / times['beam']:.1f} x one sentence at a time")
    print(f"  {times['greedy'] / times['beam']:.2f} x greedy search ({told(greedy_rows)})")
    print(f"  {times['greedy alone'] / times['beam alone']:.2f} x that, both one at a time")


def joeynmt_like(ours: Any) -> Any:
    """JoeyNMT's recurrent model with the weights of ours: the same probabilities.

    Two things are made ours beside the weights: the bias of the words, which it lacks, and the
    state that the decoder begins with, of which it has the half.
    """
    from joeynmt.decoders import RecurrentDecoder
    from joeynmt.embeddings import Embeddings
    from joeynmt.encoders import RecurrentEncoder
    from joeynmt.model import Model

    weights: dict[str, Tensor] = ours.state_dict()
    (num_source, size), hidden = weights["source.weight"].shape, ours.decoder.hidden_size
    num_words = len(weights["words.bias"])
    encoder = RecurrentEncoder("lstm", hidden, size, bidirectional=True)
    decoder = RecurrentDecoder(
        "lstm", size, hidden, encoder, "luong", vocab_size=num_words, input_feeding=False
    )
    decoder.output_layer = nn.Linear(hidden, num_words)
    decoder._init_hidden = lambda ends: (ours.bridge(ends).h, ours.bridge(ends).c)
    ids = {"pad_index": PAD_ID, "bos_index": BOS_ID, "eos_index": EOS_ID, "unk_index": UNK_ID}
    words = SimpleNamespace(**ids, sep_index=None, specials=[], lang_tags=[], lookup=int)
    source, target = (
        Embeddings(size, vocab_size=num, padding_idx=PAD_ID) for num in (num_source, num_words)
    )
    theirs = Model(encoder, decoder, source, target, words, words)
    embedding, bias = weights["words.embedding.weight"], weights["words.bias"]
    found, query = weights["combine.weight"].split([2 * hidden, hidden], 1)
    renamed = {
        "src_embed.lut.weight": weights["source.weight"],
        "trg_embed.lut.weight": embedding,
        "decoder.attention.key_layer.weight": weights["attention.to_memory.weight"].T
        * ours.attention.scale,
        "decoder.att_vector_layer.weight": torch.cat([query, found], 1),
        "decoder.att_vector_layer.bias": weights["combine.bias"],
        "decoder.output_layer.weight": embedding @ weights["words.likeness.weight"],
        "decoder.output_layer.bias": embedding @ weights["words.likeness.bias"] + bias,
    }
    for prefix, new, end in (
        ("encoder.forwards.0.layers.", "encoder.rnn.", ""),
        ("encoder.backwards.0.layers.", "encoder.rnn.", "_reverse"),
        ("decoder.layers.", "decoder.rnn.", ""),
    ):
        for name in [name for name in weights if name.startswith(prefix)]:
            renamed[new + name.removeprefix(prefix) + end] = weights[name]
    unlike = theirs.load_state_dict(renamed, strict=False)
    assert not unlike.unexpected_keys
    assert all("bridge_layer" in name for name in unlike.missing_keys)
    return theirs.eval()


@pytest.mark.bench
def test_a_beam_against_joeynmt(translator: Taught) -> None:
    if folder := os.environ.get("JOEYNMT"):
        sys.path.append(folder)
    try:
        from joeynmt.batch import Batch as TheirBatch
        from joeynmt.search import search
    except ImportError as error:
        pytest.skip(f"JOEYNMT={folder}: joeynmt is absent ({error})")
    batch, wanted = translator.batch(range(AT_ONCE)), translator.recipe.search
    same = (torch.arange(AT_ONCE), translator.device, PAD_ID, EOS_ID, False)
    like = TheirBatch(batch.source, batch.source_lengths, None, None, None, *same)

    def their_search(model: Any, beam_size: int, max_tokens: int) -> list[list[int]]:
        # Its length counts <eos>; the length penalty is that of its recipes.
        rules = {"generate_unk": False, "min_output_length": 0}
        ids, _, _ = search(model, like, max_tokens + 1, beam_size, 1.0, **rules)
        ended = ([*row[:max_tokens], EOS_ID] for row in ids.tolist())
        return [row[: row.index(EOS_ID)] for row in ended]

    ours, endless = translator.model, copy.deepcopy(translator.model)
    endless.words.bias.data[EOS_ID] = -1e4
    theirs, their_endless = (joeynmt_like(m).to(translator.device) for m in (ours, endless))
    greedy = [list(best.token_ids) for best, *_ in translator.search(batch, 1)]
    their_greedy = their_search(theirs, 1, wanted.max_tokens)
    # Words that are as likely as each other aside, it is the same model.
    assert sum(map(list.__eq__, greedy, their_greedy)) >= AT_ONCE - 1
    penalty = wanted.length_penalty
    times = race(
        {
            "ours": lambda: translator.search(batch, BEAM),
            "theirs": lambda: their_search(theirs, BEAM, wanted.max_tokens),
            "endless": lambda: beam(endless, batch, BEAM, ENDLESS_WORDS, penalty, num=1),
            "their endless": lambda: their_search(their_endless, BEAM, ENDLESS_WORDS),
        }
    )
    with counted(ours.decoder) as rows, counted(theirs.decoder.rnn) as their_rows:
        translator.search(batch, BEAM)
        their_search(theirs, BEAM, wanted.max_tokens)
    print(f"\na beam of {BEAM} against JoeyNMT's, the same weights, {AT_ONCE} at once:")
    print(
        f"  {times['their endless'] / times['endless']:.2f} x, sentences that never end, "
        f"{ENDLESS_WORDS + 1} steps both"
    )
    print(
        f"  {times['theirs'] / times['ours']:.2f} x, each stops by its own rule "
        f"(ours {told(rows)}; theirs {told(their_rows)})"
    )


@pytest.mark.bench
def test_drawing_characters_against_other_loops() -> None:
    recipe = load_recipe("char_lm")
    characters = Tokenizer.characters(["".join(map(chr, range(32, 97)))], min_count=1)
    torch.manual_seed(0)
    model: Any = build_model(recipe.model, Sizes(len(characters))).eval()
    batch = make_batch([Row()] * NUM_TEXTS, sentences=True)

    def draw(outputs: Tensor) -> Tensor:
        return torch.multinomial(model.logits(outputs[:, -1]).softmax(1), 1)

    @torch.inference_mode()
    def read_all_again() -> None:
        tokens = torch.full((NUM_TEXTS, 1), BOS_ID)
        for _ in range(NUM_CHARACTERS):
            tokens = torch.cat([tokens, draw(model.stack(model.words(tokens))[0])], 1)

    @torch.inference_mode()
    def carry_on(num_texts: int) -> None:
        token, state = torch.full((num_texts, 1), BOS_ID), None
        for _ in range(NUM_CHARACTERS):
            outputs, state = model.stack(model.words(token), state)
            token = draw(outputs)

    times = race(
        {
            "ours": lambda: sample_stream(model, batch, characters, recipe.search, NUM_CHARACTERS),
            "a loop that reads all again for each character": read_all_again,
            "a loop that carries the state, text after text": lambda: [
                carry_on(1) for _ in range(NUM_TEXTS)
            ],
            "a loop that carries the state, all at once": lambda: carry_on(NUM_TEXTS),
        },
        rounds=2,
    )
    rate = NUM_TEXTS * NUM_CHARACTERS / times["ours"]
    print(f"\nchar_lm, {NUM_TEXTS} texts of {NUM_CHARACTERS} characters: {rate:.0f} characters/s")
    for name, seconds in times.items():
        print(f"  {seconds / times['ours']:.2f} x {name}")


@pytest.mark.bench
@pytest.mark.parametrize("name", ["translator", "captioner"])
def test_the_share_of_scoring(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: Taught = request.getfixturevalue(name)
    recipe, score, spent = taught.recipe, Scorer.score, [0.0]

    def timed(self: Scorer, *args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        scores = score(self, *args, **options)
        spent[0] = time.perf_counter() - began
        return scores

    monkeypatch.setattr(Scorer, "score", timed)
    print(f"\n{recipe.name}, {len(taught.val.examples)} examples, beam {recipe.search.beam_size}:")
    for turn in ("evaluated", "again, METEOR's process being there"):
        began = time.perf_counter()
        target, settings = taught.words.target, recipe.training
        evaluate(taught.model, target, taught.val, "val", recipe.search, settings)
        whole = time.perf_counter() - began
        share = 100 * spent[0] / whole
        print(f"  {turn}: {whole:.1f} s, of which scoring {spent[0]:.1f} s, {share:.0f} %")
