"""Laws that the project's importers, backbones, metrics and models hold, for those of packages.

The author of a plug-in calls these functions in the package's own tests. Each raises an
`AssertionError` that names the law which does not hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intertitle.generator_laws import check_generator, expect
from intertitle.pipeline.backbones import backbone_spec, open_backbone, prepare_backbone
from intertitle.pipeline.backbones.families import family_of
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.importers.declaration import Sources
from intertitle.pipeline.importers.dispatch import import_dataset, load_importer
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.config.metrics import METRICS, MetricTask
from intertitle.training.evaluation.metrics.predictions import Predictions, References

__all__ = ["check_backbone", "check_generator", "check_importer", "check_metric"]


def check_importer(name: str, sources: Sequence[str | Path], folder: Path, **options: Any) -> None:
    """Check the laws of an importer on a small data set.

    Args:
        name: name of the importer.
        sources: its SOURCE arguments.
        folder: empty folder to write corpora into.
        options: its options.

    Raises:
        AssertionError: a law does not hold.
        UserError: the importer is unknown, or refuses the data set.
    """
    importer = load_importer(name)
    expect(importer.name == name, "the declared name is that of the entry point")
    expect(importer.summary and "\n" not in importer.summary, "the summary is one line")
    expect(
        bool(importer.arguments) == (importer.sources is not Sources.NONE), "arguments are named"
    )
    parameters = inspect.signature(importer.function).parameters
    missing = [option.name for option in importer.options if option.name not in parameters]
    expect(not missing, f"the function takes its options, but not {', '.join(missing)}")
    paths, corpora = [as_path(str(source)) for source in sources], []
    for number in range(2):
        report = import_dataset(name, paths, folder / f"corpus-{number}", **options)
        corpus = Corpus(folder / f"corpus-{number}")
        counts = (corpus.num_items(), sum(corpus.counts().values()), corpus.num_references())
        expect((report.items, report.examples, report.references) == counts, "the report counts")
        expect(report.items + report.examples > 0, "the corpus is not empty")
        corpora.append((corpus.items(), corpus.examples()))
    expect(corpora[0] == corpora[1], "the same data set gives the same corpus")


def check_backbone(name: str, features: str = "pooled") -> None:
    """Check the laws of a backbone that has a PyTorch network.

    Args:
        name: name of the backbone, as of `precompute --backbone`.
        features: "pooled" or "grid".

    Raises:
        AssertionError: a law does not hold.
        UserError: the backbone is unknown, or has no such features.
    """
    spec = backbone_spec(name, features)
    make_network = family_of(name).make_network
    if make_network is None:
        raise AssertionError(f"{name}: its family makes a PyTorch network, `make_network`")
    expect(spec == backbone_spec(name, features, spec.weights_sha256), "the specification is fixed")
    expect(len(spec.shape) == (1 if features == "pooled" else 2), "the shape is [D] or [cells, D]")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3 * spec.window, spec.size, spec.size, 3), np.uint8)
    backbone = open_backbone(spec, 1, prepare_backbone(spec, "float32"))
    computed, expected = backbone(frames), TorchBackbone(spec, make_network(spec, None))(frames)
    tolerance = 1e-4 * float(np.abs(expected).max())
    expect(computed.shape == (3, *spec.shape), "features have the shape of the specification")
    expect(computed.dtype == np.float32 and np.isfinite(computed).all(), "features are finite")
    expect(np.abs(computed - expected).max() < tolerance, "ONNX Runtime computes what PyTorch does")
    second = backbone(frames[spec.window : 2 * spec.window])[0]
    expect(np.abs(second - computed[1]).max() < tolerance, "frames or clips are independent")
    expect(np.abs(computed[0] - computed[1]).max() > tolerance, "features depend on the frame")
    expect(backbone(frames[:0]).shape == (0, *spec.shape), "no frames have no features")


_SENTENCES = ["a dog runs", "", "the cat sleeps on the mat today", "A bird."]
_GROUPS = [["a dog runs fast", "the dog"], ["a bird"], ["a cat sleeps"], ["A bird."]]
_REFERENCES: dict[MetricTask, list[list[str]]] = {
    "caption": _GROUPS,
    "translation": _GROUPS,
    "label": [["dog"], ["bird"], ["cat"], ["bird"]],
    "answer": [["dog"], ["bird"], ["cat"], ["bird", "birds"]],
    "label_per_frame": [["a", "b"], ["a"], ["b", "b", "b"], ["a"]],
}
_OUTPUTS: dict[MetricTask, list[Any]] = {
    "caption": _SENTENCES,
    "translation": _SENTENCES,
    "label": ["dog", "dog", "", "bird"],
    "answer": ["dog", "dog", "", "bird"],
    "label_per_frame": [["a", "a"], ["a"], ["b", "a", "b"], ["b"]],
}


def check_metric(name: str, language: str = "en") -> None:
    """Check the laws of a metric on four examples of each of its tasks.

    Args:
        name: name of the metric.
        language: code of the references' language.

    Raises:
        AssertionError: a law does not hold.
        UserError: the metric is unknown.
    """
    metric = METRICS.load(name, "metric")
    expect(metric.name == name, "the declared name is that of the entry point")
    if metric.measure is None or not metric.tasks:
        raise AssertionError("it measures predictions of a task")
    unknown = [task for task in metric.tasks if task not in _REFERENCES]
    expect(not unknown, f"tasks are {', '.join(_REFERENCES)}, but not {', '.join(unknown)}")
    for task in metric.tasks:
        scores = []
        for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
            references = References([_REFERENCES[task][n] for n in order], language=language)
            outputs = [_OUTPUTS[task][n] for n in order]
            measured = metric.measure(Predictions(task, references, outputs))
            if measured is None:
                continue
            rows = measured.statistics
            expect(measured.signature, "the signature is not empty")
            expect(rows.shape[:1] == (4,) and rows.dtype == np.float64, "statistics are [B, S]")
            sums = np.stack([rows.sum(0), rows[0], rows[order.index(0)]])
            combined = metric.combine(sums)
            expect(combined.shape == (3,), "`combine` returns a score for each set, [R]")
            expect(np.isfinite(combined).all(), "scores are finite")
            scores.append(combined[[0, 2]])
        if scores:
            expect(
                np.allclose(scores[0], scores[1]),
                "scores do not depend on the order of the examples",
            )
