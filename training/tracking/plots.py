"""The pictures of a run: how it learned, how long its sentences are, how far gradients reach."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.evaluation.tokens import DEFAULT, num_words

_LOSS = "nats_per_token"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # told apart by the colour-blind too
_NAMES = {
    "accuracy": "Accuracy (%)",
    "bleu": "BLEU (0-100)",
    "cider": "CIDEr",
    "meteor": "METEOR (0-100)",
    "rouge_l": "ROUGE-L (0-100)",
    "sacrebleu": "sacreBLEU (0-100)",
    "vqa_accuracy": "VQA accuracy (%)",
}

_Lines = dict[str, list[tuple[float, float]]]  # label -> (epoch, value)


def learning_curves(
    history: Sequence[Mapping[str, float]], best_epoch: float | None = None
) -> Figure:
    """Loss and validation scores over the epochs, a panel each, the best epoch marked.

    Args:
        history: one mapping an epoch: `epoch` (else counted from 1), and values named
            `train/NAME` or `val/NAME` (also with `_` or `.`). A value may be absent in an epoch.
        best_epoch: the epoch whose checkpoint was kept; else the one of the lowest validation
            loss in nats per token.
    """
    panels: dict[str, _Lines] = {_LOSS: defaultdict(list)}
    for number, values in enumerate(history, start=1):
        for key, value in values.items():
            found = re.fullmatch(r"(train|val)[/_.](.+)", key)
            if not found or found[2] == "perplexity":  # perplexity is the loss again
                continue
            split, metric = found.groups()
            panel, line = _panel(split, metric)
            epoch = values.get("epoch", number)
            panels.setdefault(panel, defaultdict(list))[line].append((epoch, value))
    if best_epoch is None:
        validated = panels[_LOSS].get("validation", [])
        best_epoch = min(validated, key=lambda point: point[1])[0] if validated else None

    figure, grid = _grid(len(panels))
    for axes, (panel, lines) in zip(grid, panels.items(), strict=True):
        _draw(axes, lines, best_epoch)
        name = "Loss" if panel == _LOSS else _label(panel).partition(" (")[0]
        split = "" if "training" in lines else ", validation"
        axes.set(xlabel="Epoch", ylabel=_label(panel))
        axes.set_title(name + split, pad=20)
    return figure


def length_histogram(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    tokenizer: str = DEFAULT,
) -> Figure:
    """How many words the model says in a sentence, against how many people say.

    Both are shares of their own number of sentences: an example may have several references.

    Args:
        hypotheses: of the model.
        references: of people.
        tokenizer: that counts the words, see `training.evaluation.tokens`.
    """
    people = [text for refs in references for text in ([refs] if isinstance(refs, str) else refs)]
    said, wanted = ([num_words(t, tokenizer) for t in texts] for texts in (hypotheses, people))
    longest = max([*said, *wanted, 1])
    # A bar a word, until there are too many to tell apart; edges lie between whole numbers.
    width = max(1, -(-longest // 40))
    edges = [start - 0.5 for start in range(0, longest + width + 1, width)]

    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    bars: dict[str, Any] = {"color": _COLOURS[0], "alpha": 0.55}
    outline: dict[str, Any] = {"color": _COLOURS[1], "histtype": "step", "linewidth": 2}
    for name, counts, style in (("Model", said, bars), ("References", wanted, outline)):
        if counts:
            shares = [100 / len(counts)] * len(counts)
            label = f"{name}: {len(counts):,}, mean {sum(counts) / len(counts):.1f} words"
            axes.hist(counts, bins=edges, weights=shares, label=label, **style)
    axes.set_title("Sentence length", pad=20)
    axes.set(xlabel="Words in a sentence", ylabel="Share of sentences (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)
    return figure


def score_histogram(scores: Mapping[str, Sequence[float]]) -> Figure:
    """How the scores of single examples are spread, a panel a metric, their mean marked.

    Args:
        scores: an example's score each, by the name of the metric; at least one metric, and one
            score of each.
    """
    figure, grid = _grid(len(scores))
    for axes, (metric, values) in zip(grid, scores.items(), strict=True):
        shares = [100 / len(values)] * len(values)
        label = f"{len(values):,} examples"
        axes.hist(values, bins=30, weights=shares, color=_COLOURS[0], alpha=0.7, label=label)
        mean = sum(values) / len(values)
        axes.axvline(mean, color="0.35", linestyle="--", linewidth=1, label=f"mean {mean:.3g}")
        found = re.fullmatch(r"bleu_(\d)", metric)
        axes.set_title(f"BLEU-{found[1]}" if found else _label(metric).partition(" (")[0], pad=20)
        axes.set(xlabel="Score of an example", ylabel="Share of examples (%)")
        _finish(axes)
    return figure


def gradient_flow_plot(flows: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> Figure:
    """How gradients fade with the distance that they go back, a line a cell, on a log scale.

    Args:
        flows: norms of gradients by the name of a line; the index is the distance t - k. A norm
            of zero is not drawn.
    """
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yscale("log", nonpositive="mask")
    axes.set_prop_cycle(color=_COLOURS)
    for name, norms in flows.items():
        axes.plot(range(len(norms)), norms, linewidth=2, label=name)
    axes.set_title("Gradients back through time", pad=20)
    axes.set(
        xlabel="Steps back (t - k)", ylabel=r"$\|\partial\,\mathrm{loss}_t\,/\,\partial h_k\|$"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)
    return figure


def _grid(num_panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with a number of panels, three a row."""
    columns = min(3, num_panels)
    rows = -(-num_panels // columns)
    width = 7.2 if columns == 1 else 4.4 * columns
    figure = Figure(figsize=(width, 3.4 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, 1 + n) for n in range(num_panels)]


def _draw(axes: Axes, lines: _Lines, best_epoch: float | None) -> None:
    for colour, (name, points) in zip(_COLOURS, lines.items(), strict=False):
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=colour, marker="o", markersize=4, label=name)
    if best_epoch is not None:
        label = f"best epoch: {best_epoch:g}"
        axes.axvline(best_epoch, color="0.35", linestyle="--", linewidth=1, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes, where it covers no curve.
        where: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        axes.legend(
            **where, ncols=5, frameon=False, fontsize=7.5, columnspacing=1, handlelength=1.5
        )


def _panel(split: str, metric: str) -> tuple[str, str]:
    """The panel and the line of a metric: the four BLEUs share one, the losses another."""
    if found := re.fullmatch(r"bleu_(\d)", metric):
        return "bleu", f"BLEU-{found[1]}"
    return metric, {"train": "training", "val": "validation"}[split]


def _label(panel: str) -> str:
    return "Nats per token" if panel == _LOSS else _NAMES.get(panel, panel.replace("_", " "))
