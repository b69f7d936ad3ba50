"""A split becomes sentences, and sentences become scores."""

import math
from pathlib import Path

import pytest

from intertitle.training.config.sections import EvaluationConfig, SearchConfig
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.evaluate import evaluate
from intertitle.training.evaluation.metrics.sufficient_stats import score_of
from intertitle.training.evaluation.scorers import Scorer
from tests.training.conftest import coloured_things, make_loop, small_recipe, split_of, write_data

SEARCH = SearchConfig(beam_size=2, max_tokens=5, length_penalty=0.7)


def test_a_whole_split_is_scored_and_what_is_left_out_counted(
    tmp_path: Path, words: Vocabs
) -> None:
    data = write_data(tmp_path, coloured_things(30), quarantined=("item 10",))
    model = make_loop(data, words, small_recipe()).model.eval()
    dataset = split_of(data, "val", words, 8)
    evaluation = evaluate(
        model, words.target, dataset, "val", SEARCH, small_recipe().training, EvaluationConfig()
    )
    assert [sample.item_key for sample in evaluation.samples] == [
        f"item {n}" for n in (0, 5, 15, 20, 25)
    ]
    assert (evaluation.split, evaluation.num_left_out) == ("val", 1)
    scorer = Scorer("caption", [sample.references for sample in evaluation.samples])
    expected = scorer.score([sample.hypothesis for sample in evaluation.samples])
    found = evaluation.scores
    for name, rows in found.statistics.items():
        assert len(rows) == len(evaluation.samples)
        assert score_of(name, rows) == pytest.approx(found.values[name], abs=1e-9)
    assert {name: found.values[name] for name in expected.values} == expected.values
    assert found.values["perplexity"] == pytest.approx(math.exp(found.values["nats_per_token"]))
    assert found.signatures.keys() == found.values.keys()
