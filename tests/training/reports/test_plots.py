"""The pictures of a run."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure

from intertitle.training.evaluation.sample import Sample
from intertitle.training.reports.plots import (
    gradient_flow_plot,
    learning_curves,
    length_histogram,
    score_histogram,
    timelines,
)

HISTORY = [
    {"epoch": 1, "train/nats_per_token": 4.0, "val/nats_per_token": 3.9, "lr": 0.1},
    {"epoch": 2, "train/nats_per_token": 3.0, "val/nats_per_token": 3.1, "val/bleu_1": 40.0},
    {"epoch": 3, "train/nats_per_token": 2.0, "val/nats_per_token": 3.3, "val/bleu_4": 9.0},
]


def drawn(figure: Figure) -> bool:
    file = BytesIO()
    figure.savefig(file)
    return file.getvalue().startswith(b"\x89PNG")


def legend(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def test_a_panel_for_the_loss_and_one_for_each_kind_of_score() -> None:
    figure = learning_curves(HISTORY)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "BLEU, validation"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["Nats per token", "BLEU (0-100)"]
    assert legend(figure) == ["training", "validation", "best epoch: 2"]
    assert legend(figure, 1) == ["BLEU-1", "BLEU-4", "best epoch: 2"]
    validation = figure.axes[0].get_lines()[1]
    assert list(validation.get_xdata()) == [1, 2, 3]
    assert list(validation.get_ydata()) == [3.9, 3.1, 3.3]
    assert drawn(figure)


def test_the_caller_may_say_which_epoch_was_best() -> None:
    assert "best epoch: 3" in legend(learning_curves(HISTORY, best_epoch=3))


@pytest.mark.parametrize("separator", ["/", "_", "."])
def test_epochs_are_counted_if_they_are_not_given(separator: str) -> None:
    history = [{f"val{separator}nats_per_token": value} for value in (2.0, 1.0)]
    assert legend(learning_curves(history)) == ["validation", "best epoch: 2"]


def test_a_score_of_training_too_is_told_apart() -> None:
    figure = learning_curves([{"train/accuracy": 50.0, "val/accuracy": 40.0}])
    assert figure.axes[1].get_title() == "Accuracy"
    assert legend(figure, 1) == ["training", "validation"]


@pytest.mark.parametrize("history", [[], [{}], [{"train/nats_per_token": float("nan")}]])
def test_nothing_to_show_is_no_error(history: list[dict[str, float]]) -> None:
    assert drawn(learning_curves(history))


def test_lengths_are_shares_of_their_own_number() -> None:
    figure = length_histogram(["a dog", "a dog runs"], [["one two three", "four five"], "six"])
    bars = figure.axes[0].patches
    heights = [bar.get_height() for bar in bars if hasattr(bar, "get_height")]
    assert heights == [0, 0, 50, 50]
    assert legend(figure) == ["Model: 2, mean 2.5 words", "References: 3, mean 2.0 words"]
    assert drawn(figure)


@pytest.mark.parametrize("hypotheses", [[], [""], ["word " * 500]])
def test_odd_lengths_are_drawn(hypotheses: list[str]) -> None:
    assert drawn(length_histogram(hypotheses, []))


def test_gradients_fade_on_a_log_scale_a_line_a_cell() -> None:
    figure = gradient_flow_plot({"rnn": [1.0, 1e-3, 1e-9], "lstm": np.array([1.0, 0.5, 0.2, 0.1])})
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "Steps back (t - k)"
    assert legend(figure) == ["rnn", "lstm"]
    rnn, lstm = axes.get_lines()
    assert list(rnn.get_ydata()) == [1.0, 1e-3, 1e-9]
    assert list(lstm.get_xdata()) == [0, 1, 2, 3]
    assert rnn.get_color() != lstm.get_color()
    assert drawn(figure)


@pytest.mark.filterwarnings("ignore:Data has no positive values")
@pytest.mark.parametrize("flows", [{}, {"rnn": []}, {"rnn": [0.0, 0.0]}])
def test_gradients_that_are_nowhere_are_no_error(flows: dict[str, list[float]]) -> None:
    assert drawn(gradient_flow_plot(flows))


def test_the_scores_of_examples_are_spread_by_metric_around_their_mean() -> None:
    figure = score_histogram({"cider": [0.0, 1.0, 2.0], "bleu_4": [10.0, 10.0]})
    assert [axes.get_title() for axes in figure.axes] == ["CIDEr", "BLEU-4"]
    assert legend(figure) == ["3 examples", "mean of examples 1.00"]
    shares = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(shares) == pytest.approx(100)
    assert max(shares) == pytest.approx(100 / 3)
    assert drawn(figure)


def test_a_timeline_shows_the_truth_above_the_prediction_in_one_colour_a_label() -> None:
    figure = timelines(
        [
            Sample(
                "film $^$", "film", None, "", ("pour", "pour", "stir"), 0.0, labels=("pour",) * 3
            ),
            Sample("other", "other", None, "", ("$^$", "stir"), 0.0, labels=("stir", "stir")),
        ]
    )
    first, second = figure.axes
    assert first.get_title("left") == "film $^$: 66.7 % of 3 frames right"
    assert [text.get_text() for text in first.get_yticklabels()] == ["true", "predicted"]
    assert first.images[0].get_array().tolist() == [[1, 1, 2], [1, 1, 1]]
    assert second.images[0].get_array().tolist() == [[0, 2], [2, 2]]
    (names,) = figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["$^$", "pour", "stir"]
    colours = [patch.get_facecolor() for patch in names.get_patches()]
    assert len(set(colours)) == 3
    assert colours[2] == second.images[0].to_rgba(2)
    assert drawn(figure)
