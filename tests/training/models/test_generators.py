"""What every generator promises, whichever it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from intertitle import generator_laws
from intertitle.generator_laws import (
    GENERATOR_LAWS,
    batch_of,
    check_generator,
    example_rows,
    forward_log_probs,
    is_target,
    small_generator,
)
from intertitle.pipeline.errors import UserError
from intertitle.training.data.batch import Row
from intertitle.training.models.base import Generator

SEEING = {
    "show_and_tell": {"kind": "show_and_tell"},
    "neuraltalk": {"kind": "neuraltalk", "cell": "gru", "num_layers": 2},
    "m_rnn": {"kind": "m_rnn", "cell": "rnn"},
    "lrcn": {"kind": "lrcn", "num_layers": 2},
    "recurrent_visual": {"kind": "recurrent_visual"},
    "mean_pool_video": {"kind": "mean_pool_video"},
    "s2vt": {"kind": "s2vt"},
    "attend_and_tell": {"kind": "attend_and_tell", "num_layers": 2, "attention_size": 4},
    "attend_video": {"kind": "attend_video", "num_layers": 2, "attention_size": 4},
}
READING = {
    "seq2seq": {"kind": "seq2seq", "num_layers": 2},
    "seq2seq reversed": {"kind": "seq2seq", "reversed": True, "cell": "gru"},
    "seq2seq both ways": {"kind": "seq2seq", "bidirectional": True, "num_layers": 2},
    "seq2seq multiplicative": {"kind": "seq2seq", "attention": "multiplicative"},
    "seq2seq additive": {
        "kind": "seq2seq",
        "cell": "rnn",
        "bidirectional": True,
        "attention": "additive",
    },
}
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"feature_dropout": 0.2, **section} for name, section in SEEING.items()},
    **READING,
}


def seen(rows: list[Row]) -> list[torch.Tensor]:
    return [torch.tensor(row.features) for row in rows]


def shown(rows: list[Row], scale: float, offset: float) -> list[Row]:
    """The same examples with other features."""
    return [replace(row, features=scale * row.features + offset) for row in rows]


@pytest.mark.parametrize("law", GENERATOR_LAWS)
@pytest.mark.parametrize("name", MODELS)
def test_every_law_holds(name: str, law: Callable[[Generator[Any]], None]) -> None:
    law(small_generator(MODELS[name]))


@pytest.mark.parametrize("name", SEEING)
def test_normalization_removes_the_scale_of_features(name: str) -> None:
    model = small_generator(MODELS[name])
    rows = example_rows(model.task)
    expected = forward_log_probs(model, batch_of(rows))
    model.fit_normalizer(seen(shown(example_rows(model.task, 1), 1000, 7)))
    scaled = batch_of(shown(rows, 1000, 7))
    at = is_target(scaled)
    assert torch.allclose(forward_log_probs(model, scaled)[at], expected[at], atol=1e-3)


@pytest.mark.parametrize("name", SEEING)
def test_a_constant_feature_is_not_scaled_up(name: str) -> None:
    model = small_generator(MODELS[name])
    same = shown(example_rows(model.task), 0, 1)
    model.fit_normalizer(seen(same))
    assert forward_log_probs(model, batch_of(same)).isfinite().all()


@pytest.mark.parametrize("name", SEEING)
def test_only_s2vt_sees_in_which_order_frames_come(name: str) -> None:
    model = small_generator(MODELS[name])
    film = example_rows(model.task)[0]
    assert film.features is not None
    backwards = replace(film, features=film.features[::-1].copy())
    one, other = (forward_log_probs(model, batch_of([row])) for row in (film, backwards))
    assert torch.allclose(one, other, atol=1e-5) == (name != "s2vt")


@pytest.mark.parametrize(
    ("law", "method", "message"),
    [
        ("law_steps_equal_forward", "advance", "`step` computes what `forward` computes"),
        ("law_batch_invariance", "forward", "a row is the same alone as in a batch"),
    ],
)
def test_a_law_that_does_not_hold_is_named(
    law: str, method: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_generator(MODELS["show_and_tell"])
    right = getattr(model, method)

    def wrong(*arguments: Any) -> Any:
        result = right(*arguments)
        if method == "advance":
            return 2 * result[0], result[1]
        return result - result.mean(0)

    monkeypatch.setattr(model, method, wrong)
    with pytest.raises(AssertionError, match=message):
        getattr(generator_laws, law)(model)


def test_what_is_no_generator_is_said_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"model\.kind: Field required"):
        check_generator({})
    with pytest.raises(AssertionError, match="generates text is a Generator, not classifier"):
        check_generator({"kind": "classifier"})
