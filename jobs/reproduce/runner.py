"""Make the corpora, features, runs and evaluations of a table, as far as they do not exist yet.

All of them are in one working folder and in MLflow, where they are found by name. So a call resumes
after one that was killed, and a call with nothing left to do only reads the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TypedDict

from intertitle.jobs.progress import run_import, run_precompute, training_progress
from intertitle.jobs.reproduce.config import RescoringConfig, RowConfig, TableConfig
from intertitle.pipeline.corpus import Corpus, name_target_language, write_corpus
from intertitle.pipeline.decoding.sampling import Every, Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.snapshot import current_id
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.storage.paths import as_path, atomic_folder
from intertitle.training.config.models import Section
from intertitle.training.config.recipe import Recipe, change_search, load_recipe
from intertitle.training.inference.inputs import build_split_inputs
from intertitle.training.inference.model_bundle import data_for, load_trained
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.predictor import predict_batch, rescore_candidates
from intertitle.training.reports.evaluations import EvaluatedRun, find_newest
from intertitle.training.reports.results import ResultRow, ResultsTable
from intertitle.training.runs.evaluate_run import evaluate_run
from intertitle.training.runs.job_artifact import read_job
from intertitle.training.runs.score_predictions import score_predictions
from intertitle.training.runs.train import resume, train
from intertitle.training.tracking.store.client import RunRef, find_named, resolve_run


class _EvaluationData(TypedDict):
    split: str
    corpus: Path
    features: Path | None


class ReproductionRunner:
    """Runner that makes the parts of a table and returns its results.

    Args:
        config: configuration of the table.
        data: path of the folder with the published data.
        work: path of the folder for corpora, features and checkpoints.
        tracking_uri: URI of the MLflow tracking server or store.
        may_train: whether missing runs are trained; otherwise their rows are left empty.
        start_ray: callback that starts Ray, called before each step that needs it.
        on_step: callback with a description of the next step.
    """

    def __init__(
        self,
        config: TableConfig,
        data: Path,
        work: Path,
        tracking_uri: str,
        *,
        may_train: bool,
        start_ray: Callable[[], object],
        on_step: Callable[[str], None],
    ) -> None:
        self._config, self._data, self._work = config, data, work
        self._uri, self._may_train = tracking_uri, may_train
        self._start_ray, self._on_step = start_ray, on_step
        self._fingerprints: dict[Path, str] = {}
        self._lists: dict[tuple[str, str, str, int], list[Prediction]] = {}

    def results(self) -> ResultsTable:
        """Return the results of all rows.

        Raises:
            UserError: data is missing, or an existing run, corpus or store has the name of a part
                of the table but was made in another way.
            JobError: a training failed.
        """
        rows = tuple(self._row(row) for row in self._config.rows)
        return ResultsTable(self._config.title, tuple(self._config.metrics), rows)

    def _row(self, row: RowConfig) -> ResultRow:
        runs = self._config.runs[row.runs]
        seeds = runs.seeds[: row.together] if row.together > 1 else runs.seeds
        row_runs = [self._run(row.runs, seed) for seed in seeds]
        trained = [run for run in row_runs if run is not None]
        groups = [[run] for run in trained]
        if row.together > 1:
            groups = [trained] if len(trained) == row.together else []
        measured = (self._measure(row, group) for group in groups)
        return ResultRow(row.label, row.published, tuple(m for m in measured if m is not None))

    def _corpus(self, name: str) -> Path:
        """Return the path of a corpus of the table; import it if it does not exist."""
        path, config = self._work / "corpora" / name, self._config.corpora[name]
        _claim(path, config)
        if not path.is_dir():
            self._on_step(f"importing {name}")
            with atomic_folder(path) as folder:
                run_import(
                    config.format,
                    [as_path(str(self._data / relative_path)) for relative_path in config.source],
                    folder,
                    num_clips=config.num_clips,
                    source_language=config.source_language,
                    target_language=config.target_language,
                    frame_labels=config.frame_labels,
                )
                if config.num_train is not None:
                    _keep_few(folder, config.num_train)
        return path

    def _features(self, name: str | None) -> Path | None:
        """Return the path of a feature store of the table; compute or resume it if not finished."""
        if name is None:
            return None
        path, config = self._work / "features" / name, self._config.stores[name]
        _claim(path, config)
        if current_id(as_path(path)) is None:
            self._on_step(f"features {name}")
            sampling = Every(config.every) if config.every else Uniform(config.frames)
            options = PrecomputeOptions(config.backbone, sampling, features=config.kind)
            self._start_ray()
            run_precompute(Corpus(self._corpus(config.corpus)), as_path(path), options)
        return path

    def _run(self, name: str, seed: int) -> RunRef | None:
        """Return a run of the table; train or resume it if it is not finished.

        Returns:
            The run, or None if it is not finished and may not be trained.
        """
        config, title = self._config.runs[name], f"{name}-{seed}"
        recipe = load_recipe(config.recipe, [*config.set, f"training.seed={seed}"])
        checkpoints = self._work / "checkpoints"
        existing, is_finished = find_named(title, self._uri) or (None, False)
        has_begun = existing and any((checkpoints / existing.run_id).glob("checkpoint_*"))
        if existing and (is_finished or has_begun):
            self._check_same(existing, name, seed, recipe)
        if is_finished:
            return existing
        if not self._may_train:
            return None
        first = None
        if begin := config.init_from:
            first = self._run(begin, self._first_seed(begin, seed))
        corpus, features = self._corpus(config.corpus), self._features(config.features)
        titles = [f"{key}-{n}" for key, run in self._config.runs.items() for n in run.seeds]
        number = 1 + titles.index(title)
        self._on_step(f"training {title}, run {number} of {len(titles)}")
        self._start_ray()
        with training_progress() as watch:
            if existing and has_begun:
                return resume(
                    existing.run_id, tracking_uri=self._uri, changes={}, on_report=watch.on_report
                ).run
            return train(
                recipe,
                corpus,
                features,
                workers=1,
                tracking_uri=self._uri,
                checkpoints=checkpoints,
                name=title,
                init_from=first.run_id if first else None,
                on_start=watch.on_start,
                on_report=watch.on_report,
            ).run

    def _check_same(self, existing: RunRef, name: str, seed: int, recipe: Recipe) -> None:
        """Check that an existing run was trained as this table describes.

        Corpora and stores are compared by name, because `_claim` ensures that a name always stands
        for the same configuration.

        Raises:
            UserError: the run was trained in another way.
        """
        job, config = read_job(existing), self._config.runs[name]
        begin = config.init_from
        expected_beginning = None if begin is None else f"{begin}-{self._first_seed(begin, seed)}"
        actual_beginning = job.init_from and resolve_run(job.init_from, self._uri).name
        stores = [Path(path).name for path in job.data.stores]
        for part, is_same in (
            ("recipe", job.recipe == recipe),
            ("corpus", Path(job.data.corpus).name == config.corpus),
            ("store of features", stores == ([config.features] if config.features else [])),
            ("beginning", actual_beginning == expected_beginning),
        ):
            if not is_same:
                raise UserError(
                    f"run {existing.name}: is there, and of another {part} than this table's, "
                    "allowed: another --tracking-uri"
                )

    def _first_seed(self, begin: str, seed: int) -> int:
        """Return the seed of the run that another is initialised from: the same, or the first."""
        seeds = self._config.runs[begin].seeds
        return seed if seed in seeds else seeds[0]

    def _measure(self, row: RowConfig, runs: Sequence[RunRef]) -> EvaluatedRun | None:
        """Return the evaluation of a row's runs; evaluate them if that has not been done."""
        first, *rest = runs
        config = self._config.runs[row.runs]
        corpus = self._corpus(row.corpus or config.corpus)
        features = self._features(row.features or config.features)
        recipe = change_search(read_job(first).recipe, row.search)
        fingerprint = self._fingerprint(corpus)
        name = _name(row.rescoring) if row.rescoring else None

        def find() -> EvaluatedRun | None:
            search = None if name else recipe.search
            return find_newest(first, row.split, fingerprint, search, rest, predictions=name)

        measured = find()
        if measured is None:
            number, num_rows = 1 + self._config.rows.index(row), len(self._config.rows)
            members = " + ".join(run.name for run in runs)
            self._on_step(f"measuring row {number} of {num_rows}, {row.label}: {members}")
            where: _EvaluationData = {"split": row.split, "corpus": corpus, "features": features}
            if row.rescoring:
                rescored = self._rescored(row.rescoring, first, where)
                if rescored is None:
                    return None
                score_predictions(first, rescored, _name(row.rescoring), **where)
            else:
                evaluate_run(first, ensemble=rest, **where, **row.search)
            measured = find()
        return measured

    def _fingerprint(self, corpus: Path) -> str:
        """Return the fingerprint of a corpus, which is computed once."""
        if corpus not in self._fingerprints:
            self._fingerprints[corpus] = Corpus(corpus).fingerprint()
        return self._fingerprints[corpus]

    def _rescored(
        self, config: RescoringConfig, judge: RunRef, where: _EvaluationData
    ) -> list[Prediction] | None:
        """Rescore the n-best lists of another run with a judge.

        Returns:
            The rescored lists, or None if that run is not finished and may not be trained.
        """
        writer = self._run(config.runs, self._config.runs[config.runs].seeds[0])
        if writer is None:
            return None
        judging = load_trained(judge).to_default_device()
        data = data_for(judging, where["corpus"], where["features"])
        # All judges rescore the same lists, which are generated once.
        name = (writer.run_id, data.ref.corpus_fingerprint, where["split"], config.nbest)
        if name not in self._lists:
            writing = load_trained(writer).to_default_device()
            inputs = build_split_inputs(writing, data, where["split"])
            self._lists[name] = predict_batch(writing, inputs, range(len(inputs.ids)), config.nbest)
        inputs = build_split_inputs(judging, data, where["split"])
        return rescore_candidates(judging, inputs, self._lists[name], config.weight)


def _claim(path: Path, config: Section) -> None:
    """Record the configuration of a folder that is to be made, in a JSON file next to it.

    Raises:
        UserError: the folder exists and was not made with this configuration, or it is not known
            with which.
    """
    record = path.with_name(f"{path.name}.json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(config.model_dump_json(indent=1), "utf-8")
    elif (
        not record.is_file()
        or type(config).model_validate_json(record.read_text("utf-8")) != config
    ):
        raise UserError(
            f"{path}: is there, and {record.name} next to it does not say that it was made as this "
            "table does, allowed: another --work"
        )


def _keep_few(path: Path, num_train: int) -> None:
    """Keep only the first training examples of a corpus."""
    corpus = Corpus(path)
    left = count()
    examples = [e for e in corpus.examples() if e.split != "train" or next(left) < num_train]
    write_corpus(path, list(corpus.items()), examples)
    if corpus.target_language is not None:
        name_target_language(path, corpus.target_language)


def _name(config: RescoringConfig) -> str:
    """Return the name under which the rescored lists are evaluated."""
    return f"{config.nbest}-best of {config.runs}, weight {config.weight:g}"
