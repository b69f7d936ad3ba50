"""Figures of a run: learning curves, sentence lengths, scores, labels and gradient flow."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from intertitle.training.evaluation.confusion import Confusion
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, num_words
from intertitle.training.evaluation.sample import Sample

_LOSS = "nats_per_token"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # distinguishable for colour-blind people
_NAMES = {
    "accuracy": "Accuracy (%)",
    "bleu": "BLEU (0-100)",
    "cider": "CIDEr",
    "edit_score": "Edit score (0-100)",
    "f1": "F1 of segments (0-100)",
    "meteor": "METEOR (0-100)",
    "rouge_l": "ROUGE-L (0-100)",
    "sacrebleu": "sacreBLEU (0-100)",
    "vqa_accuracy": "VQA accuracy (%)",
}

NUM_LABELS = 30
"""Labels of a confusion matrix, at most."""

_Lines = dict[str, list[tuple[float, float]]]  # label -> (epoch, value)


def learning_curves(
    history: Sequence[Mapping[str, float]], best_epoch: float | None = None
) -> Figure:
    """Plot loss and validation scores over the epochs, one panel each, with the best epoch marked.

    Args:
        history: one mapping per epoch with `epoch` (otherwise counted from 1) and values named
            `train/NAME` or `val/NAME` (also with `_` or `.`). A value may be missing in an epoch.
        best_epoch: epoch whose checkpoint was kept; None marks the epoch with the lowest validation
            loss in nats per token.
    """
    panels: dict[str, _Lines] = {_LOSS: defaultdict(list)}
    for number, values in enumerate(history, start=1):
        for key, value in values.items():
            match = re.fullmatch(r"(train|val)[/_.](.+)", key)
            if (
                not match or match[2] == "perplexity"
            ):  # perplexity has the same information as the loss
                continue
            split, metric = match.groups()
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
    """Plot histograms of the number of words per sentence in predictions and in references.

    Each histogram shows shares of its own number of sentences, since an example may have several
    references.

    Args:
        hypotheses: predicted sentences.
        references: reference sentences, one or several per example.
        tokenizer: tokenizer that splits words, see `evaluation.metrics.metric_tokenizer`.
    """
    all_references = [
        text for refs in references for text in ([refs] if isinstance(refs, str) else refs)
    ]
    hypothesis_lengths, reference_lengths = (
        [num_words(t, tokenizer) for t in texts] for texts in (hypotheses, all_references)
    )
    longest = max([*hypothesis_lengths, *reference_lengths, 1])
    # One bar per number of words, wider if there are more than 40; edges lie between integers.
    width = max(1, -(-longest // 40))
    edges = [start - 0.5 for start in range(0, longest + width + 1, width)]

    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    bars: dict[str, Any] = {"color": _COLOURS[0], "alpha": 0.55}
    outline: dict[str, Any] = {"color": _COLOURS[1], "histtype": "step", "linewidth": 2}
    for name, counts, style in (
        ("Model", hypothesis_lengths, bars),
        ("References", reference_lengths, outline),
    ):
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
    """Plot histograms of the scores of examples, one panel per metric, with the mean marked.

    Args:
        scores: scores of the examples by the name of the metric; at least one metric, and at least
            one score per metric.
    """
    figure, grid = _grid(len(scores))
    for axes, (metric, values) in zip(grid, scores.items(), strict=True):
        shares = [100 / len(values)] * len(values)
        label = f"{len(values):,} examples"
        axes.hist(values, bins=30, weights=shares, color=_COLOURS[0], alpha=0.7, label=label)
        mean = sum(values) / len(values)
        axes.axvline(
            mean, color="0.35", linestyle="--", linewidth=1, label=f"mean of examples {mean:.2f}"
        )
        match = re.fullmatch(r"bleu_(\d)", metric)
        axes.set_title(f"BLEU-{match[1]}" if match else _label(metric).partition(" (")[0], pad=20)
        axes.set(xlabel="Score of an example", ylabel="Share of examples (%)")
        _finish(axes)
    return figure


def confusion_matrix(confusion: Confusion) -> Figure:
    """Plot the shares of predictions for each of the most frequent labels.

    Args:
        confusion: confusion of the labels; predictions of other labels are in the last column.
    """
    labels = [score.label for score in confusion.labels[:NUM_LABELS]]
    number = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1))
    for (label, prediction), num in confusion.counts.items():
        if label in number:
            counts[number[label], number.get(prediction, len(labels))] += num
    columns = labels if len(labels) == len(confusion.labels) else [*labels, "(others)"]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, (axes,) = _grid(1)
    image = axes.imshow(shares[:, : len(columns)], vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set(xlabel="Predicted label", ylabel="Label")
    figure.colorbar(image, ax=axes, label="Share of the label")
    return figure


def timelines(samples: Sequence[Sample]) -> Figure:
    """Plot the labels of frames over time, for each video the true ones above the predicted.

    Args:
        samples: predictions of the labels of frames, at least one; the references are the labels.
    """
    labels = sorted({label for s in samples for label in (*s.references, *s.labels)})
    number = {label: index for index, label in enumerate(labels)}
    colours = colormaps["tab20" if len(labels) <= 20 else "turbo"].resampled(len(labels))
    columns = min(len(labels), 6)
    legend_inches = 0.25 * -(-len(labels) // columns)
    figure = Figure(figsize=(9, 0.9 * len(samples) + legend_inches), layout="constrained")
    for row, sample in enumerate(samples, start=1):
        axes = figure.add_subplot(len(samples), 1, row)
        bars = [[number[label] for label in side] for side in (sample.references, sample.labels)]
        axes.imshow(
            bars,
            cmap=colours,
            vmin=-0.5,
            vmax=len(labels) - 0.5,
            aspect="auto",
            interpolation="nearest",
        )
        axes.axhline(0.5, color="white", linewidth=1.5)
        axes.set_yticks((0, 1), ("true", "predicted"), fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        right = sum(map(str.__eq__, sample.references, sample.labels)) / len(sample.labels)
        title = f"{sample.id}: {100 * right:.1f} % of {len(sample.labels):,} frames right"
        axes.set_title(title, fontsize=8, loc="left", parse_math=False)
    patches = [Patch(color=colours(n), label=label) for n, label in enumerate(labels)]
    placement: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
    legend = figure.legend(handles=patches, fontsize=7, frameon=False, **placement)
    for text in legend.get_texts():
        # Labels with dollar signs must not be parsed as formulas.
        text.set_parse_math(False)
    return figure


def gradient_flow_plot(flows: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> Figure:
    """Plot norms of gradients by distance in time, one line per kind of cell, on a log scale.

    Args:
        flows: norms of gradients by the name of the line; the index is the distance t - k. A norm
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
    """Create a figure with a number of panels, three per row."""
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
        # Place the legend above the axes, where it covers no curve.
        placement: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        axes.legend(
            **placement, ncols=5, frameon=False, fontsize=7.5, columnspacing=1, handlelength=1.5
        )


def _panel(split: str, metric: str) -> tuple[str, str]:
    """Return the panel and the line label of a metric; those of one name share a panel."""
    if match := re.fullmatch(r"bleu_(\d)", metric):
        return "bleu", f"BLEU-{match[1]}"
    if match := re.fullmatch(r"f1_(\d+)", metric):
        return "f1", f"F1@{match[1]}"
    return metric, {"train": "training", "val": "validation"}[split]


def _label(panel: str) -> str:
    return "Nats per token" if panel == _LOSS else _NAMES.get(panel, panel.replace("_", " "))
