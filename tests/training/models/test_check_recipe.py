"""What in a recipe does not go together is told before anything is begun."""

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import load_recipe, recipe_names
from intertitle.training.models.check_recipe import check_recipe
from tests.training.conftest import small_recipe

# Self-critical learning is without noise.
QUIET = (
    "objective.kind=self_critical",
    "optimizer.label_smoothing=0",
    "model.dropout=0",
    "model.feature_dropout=0",
)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            ("char_lm", "objective.kind=scheduled_sampling"),
            r"objective\.kind: 'scheduled_sampling'",
        ),
        (("char_lm", "objective.kind=self_critical"), r"language_model: teacher_forcing"),
        (("template", "objective.kind=self_critical"), r"template: teacher_forcing"),
        (
            (
                "s2vt",
                "objective.kind=self_critical",
                "optimizer.label_smoothing=0.1",
                "model.dropout=0.5",
                "model.feature_dropout=0",
            ),
            r"needs optimizer\.label_smoothing=0 model\.dropout=0:",
        ),
        (
            ("char_lm", "training.monitor=cider"),
            r"'cider'.*language_model: nats_per_token",
        ),
        (("seq2seq_forward", "training.monitor=cider"), r"seq2seq: nats_per_token, sacrebleu"),
        (("s2vt", "training.sampler=x"), r"training\.sampler: 'x', allowed: tokens"),
        (("sentiment", "tokenizer.kind=captions"), r"tokenizer\.kind: 'captions'.*: labels"),
        (("s2vt", "tokenizer.kind=labels"), r"'labels', allowed for model\.kind s2vt: captions"),
        (("template", "tokenizer.kind=characters"), r"template: captions, words"),
        (
            ("seq2seq_forward", "source_tokenizer.size=3"),
            r"source_tokenizer\.size: 3, allowed: at least 16",
        ),
        (
            ("seq2seq_forward", "search.coverage_penalty=0.2"),
            r"search\.coverage_penalty: 0\.2, allowed for model\.kind seq2seq: 0",
        ),
    ],
)
def test_what_does_not_suit_the_model_is_refused(settings: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        check_recipe(small_recipe(*settings))


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_sound(name: str) -> None:
    check_recipe(load_recipe(name))


def test_objectives_that_suit_are_not_refused() -> None:
    for settings in ((), ("objective.kind=scheduled_sampling",), QUIET):
        check_recipe(small_recipe("s2vt", *settings))
    check_recipe(small_recipe("char_lm"))
    for name in ("seq2seq_attention", "attend_and_tell"):
        check_recipe(small_recipe(name, "search.coverage_penalty=0.2"))
