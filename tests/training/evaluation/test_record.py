"""What is kept of an evaluation."""

from pathlib import Path

import numpy as np

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.record import read_record, write_record
from intertitle.training.evaluation.sample import Sample


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    samples = (
        Sample("a", "film.mp4", None, "a «dog» runs", ("a dog", "it\nruns"), -0.25, -0.5),
        Sample("b", None, "Ein Hund?", "", ("yes",), -1 / 3),
    )
    statistics = {
        "meteor": np.array([[0.1, 2.0, 3.0], [1 / 3, 0.0, 5.0]]),
        "cider": np.array([[0.7], [0.0]]),
    }
    scores = Scores({"meteor": 1.0}, {"meteor": "meteor|é"}, statistics)
    write_record(tmp_path, Evaluation("val", samples, 2, 0, scores), {"split": "val", "é": [1]})
    record = read_record(tmp_path)
    assert record.description == {"split": "val", "é": [1]}
    assert (record.ids, record.item_keys) == (("a", "b"), ("film.mp4", None))
    assert record.sources == (None, "Ein Hund?")
    assert record.hypotheses == ("a «dog» runs", "")
    assert record.references == (("a dog", "it\nruns"), ("yes",))
    assert record.scores.tolist() == [-0.25, -1 / 3]
    np.testing.assert_array_equal(record.reference_scores, [-0.5, np.nan])
    assert record.statistics.keys() == statistics.keys()
    for name, rows in statistics.items():
        np.testing.assert_array_equal(record.statistics[name], rows)


def test_a_metric_of_a_package_that_is_not_installed_is_left_out(tmp_path: Path) -> None:
    rows = np.ones((1, 2))
    samples = (Sample("a", None, None, "a dog", ("a dog",), 0.0),)
    scores = Scores({}, {}, {"exact_match": rows, "wer": rows})
    details = {"not_measured": {"meteor": "no Java"}}
    write_record(tmp_path, Evaluation("val", samples, 1, 0, scores), details)
    record = read_record(tmp_path)
    assert list(record.statistics) == ["exact_match"]
    assert record.description["not_measured"] == {
        "meteor": "no Java",
        "wer": "no installed package has this metric",
    }
