"""A table's corpora, features, runs and evaluations: found where they are, made where they are not.

Everything is in one folder of work and in MLflow, and is found again by its name: a call that was
killed goes on, and one that has nothing left to do only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TypedDict

from jobs.importing import run_import
from jobs.precompute import run_precompute
from jobs.tables.config import RescoringConfig, RowConfig, TableConfig
from jobs.watch import watching
from pipeline.corpus import Corpus, name_target_language, write_corpus
from pipeline.errors import UserError
from pipeline.location import location
from pipeline.precompute import PrecomputeOptions
from pipeline.sampling import Every, Uniform
from pipeline.snapshot import current_id
from training.config import Recipe, change_search, load_recipe
from training.data.source import describe_data
from training.experiment import logged_job, resume, train
from training.judging import evaluate_predictions
from training.models.build import task_of
from training.models.config import Section
from training.prediction import ask_split, rank_anew, tell
from training.predictions import Prediction
from training.scoring import data_for, evaluate_run, load_trained
from training.tracking.compare import Measured, find_newest
from training.tracking.results import Results, Row
from training.tracking.run import RunRef
from training.tracking.store import find_named, resolve_run


class _Where(TypedDict):
    split: str
    corpus: Path
    features: Path | None


class Workshop:
    """Brings a table's parts there.

    Args:
        config: of the table.
        data: the folder with the published data.
        work: a folder for corpora, features and checkpoints.
        tracking_uri: MLflow's.
        may_train: whether runs that are not there are trained; else their rows are left empty.
        start_ray: called before whatever needs it.
        on_step: told what is done next.
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
        self._lists: dict[tuple[str, str, str, int], list[Prediction]] = {}

    def results(self) -> Results:
        """The whole table.

        Raises:
            UserError: data that is not there, or a run of a name that is something else.
            JobError: a training failed.
        """
        rows = tuple(self._row(row) for row in self._config.rows)
        return Results(self._config.title, tuple(self._config.metrics), rows)

    def _row(self, row: RowConfig) -> Row:
        runs = self._config.runs[row.runs]
        seeds = runs.seeds[: row.together] if row.together > 1 else runs.seeds
        found = [self._run(row.runs, seed) for seed in seeds]
        trained = [run for run in found if run is not None]
        groups = [[run] for run in trained]
        if row.together > 1:
            groups = [trained] if len(trained) == row.together else []
        measured = (self._measure(row, group) for group in groups)
        return Row(row.label, row.published, tuple(m for m in measured if m is not None))

    def _corpus(self, name: str) -> Path:
        """Of this file; imported if it is not there."""
        path, config = self._work / "corpora" / name, self._config.corpora[name]
        _claim(path, config)
        if not path.is_dir():
            self._on_step(f"importing {name}")
            begun = path.with_name(f"{name}.part")
            run_import(
                config.format,
                [location(str(self._data / one)) for one in config.source],
                begun,
                config.num_clips,
                languages=(config.source_language, config.target_language),
                frame_labels=config.frame_labels,
            )
            if config.num_train is not None:
                _keep_few(begun, config.num_train)
            begun.rename(path)
        return path

    def _features(self, name: str | None) -> Path | None:
        """Of this file; made, or gone on with, where it is not finished."""
        if name is None:
            return None
        path, config = self._work / "features" / name, self._config.stores[name]
        _claim(path, config)
        if current_id(location(path)) is None:
            self._on_step(f"features {name}")
            sampling = Every(config.every) if config.every else Uniform(config.frames)
            options = PrecomputeOptions(config.backbone, sampling, features=config.kind)
            self._start_ray()
            run_precompute(Corpus(self._corpus(config.corpus)), location(path), options)
        return path

    def _run(self, name: str, seed: int) -> RunRef | None:
        """A run of this file: there, gone on with, or trained."""
        config, title = self._config.runs[name], f"{name}-{seed}"
        recipe = load_recipe(config.recipe, [*config.set, f"training.seed={seed}"])
        checkpoints = self._work / "checkpoints"
        there, is_finished = find_named(title, self._uri) or (None, False)
        has_begun = there and any((checkpoints / there.run_id).glob("checkpoint_*"))
        if there and (is_finished or has_begun):
            self._check_same(there, name, seed, recipe)
        if is_finished:
            return there
        if not self._may_train:
            return None
        first = None
        if begin := config.init_from:
            first = self._run(begin, self._first_seed(begin, seed))
        corpus, features = self._corpus(config.corpus), self._features(config.features)
        self._on_step(f"training {title}")
        self._start_ray()
        with watching() as watch:
            if there and has_begun:
                return resume(
                    there.run_id, tracking_uri=self._uri, changes={}, on_report=watch.on_report
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

    def _check_same(self, there: RunRef, name: str, seed: int, recipe: Recipe) -> None:
        """That a run of this name is what this table would train. What data is called says what
        it is: see `_claim`.

        Raises:
            UserError: it is something else.
        """
        job, config = logged_job(there), self._config.runs[name]
        begin = config.init_from
        wanted = None if begin is None else f"{begin}-{self._first_seed(begin, seed)}"
        begun = job.init_from and resolve_run(job.init_from, self._uri).name
        features = job.data.features and Path(job.data.features.path).name
        for what, is_same in (
            ("recipe", job.recipe == recipe),
            ("corpus", Path(job.data.corpus).name == config.corpus),
            ("store of features", features == config.features),
            ("beginning", begun == wanted),
        ):
            if not is_same:
                raise UserError(
                    f"run {there.name}: is there, and of another {what} than this table's, "
                    "allowed: another --tracking-uri"
                )

    def _first_seed(self, begin: str, seed: int) -> int:
        """The seed of the run that another begins with: its own, or the first."""
        seeds = self._config.runs[begin].seeds
        return seed if seed in seeds else seeds[0]

    def _measure(self, row: RowConfig, runs: Sequence[RunRef]) -> Measured | None:
        """What a row's runs score, measured where they have not been."""
        first, *others = runs
        config = self._config.runs[row.runs]
        corpus = self._corpus(row.corpus or config.corpus)
        features = self._features(row.features or config.features)
        recipe = change_search(logged_job(first).recipe, row.search)
        data = describe_data(corpus, features, task_of(recipe.model).sees)
        name = _name(row.rescoring) if row.rescoring else None

        def find() -> Measured | None:
            search = None if name else recipe.search
            return find_newest(
                first, row.split, data.corpus_fingerprint, search, others, predictions=name
            )

        measured = find()
        if measured is None:
            self._on_step(f"measuring {row.label}: {' + '.join(run.name for run in runs)}")
            where: _Where = {"split": row.split, "corpus": corpus, "features": features}
            if row.rescoring:
                told = self._rescored(row.rescoring, first, where)
                if told is None:
                    return None
                evaluate_predictions(first, told, _name(row.rescoring), **where)
            else:
                evaluate_run(first, ensemble=others, **where, **row.search)
            measured = find()
        return measured

    def _rescored(
        self, config: RescoringConfig, judge: RunRef, where: _Where
    ) -> list[Prediction] | None:
        """Another run's lists, ranked anew by a judge; None where there is no such run."""
        writer = self._run(config.runs, self._config.runs[config.runs].seeds[0])
        if writer is None:
            return None
        judging = load_trained(judge).on_gpu_if_any()
        data = data_for(judging, where["corpus"], where["features"])
        # The same lists for each judge.
        name = (writer.run_id, data.corpus_fingerprint, where["split"], config.nbest)
        if name not in self._lists:
            writing = load_trained(writer).on_gpu_if_any()
            asked = ask_split(writing, data, where["split"])
            self._lists[name] = tell(writing, asked, range(len(asked.ids)), config.nbest)
        asked = ask_split(judging, data, where["split"])
        return rank_anew(judging, asked, self._lists[name], config.weight)


def _claim(path: Path, config: Section) -> None:
    """Say beside a folder that is to be made what it is made of.

    Raises:
        UserError: it is there, and not known to be made of this.
    """
    said = path.with_name(f"{path.name}.json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        said.write_text(config.model_dump_json(indent=1), "utf-8")
    elif not said.is_file() or type(config).model_validate_json(said.read_text("utf-8")) != config:
        raise UserError(
            f"{path}: is there, and {said.name} beside it does not say that it was made as this "
            "table does, allowed: another --work"
        )


def _keep_few(path: Path, num_train: int) -> None:
    """Leave out of a corpus all but the first of its training examples."""
    corpus = Corpus(path)
    left = count()
    kept = [e for e in corpus.examples() if e.split != "train" or next(left) < num_train]
    write_corpus(path, list(corpus.items()), kept)
    if corpus.target_language is not None:
        name_target_language(path, corpus.target_language)


def _name(config: RescoringConfig) -> str:
    """What the lists are called."""
    return f"{config.nbest}-best of {config.runs}, weight {config.weight:g}"
