"""A store with an untrained model of each task, and applications that answer with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from intertitle.jobs.serving.config import ModelConfig, ServerConfig
from intertitle.jobs.serving.http.app import create_app
from intertitle.jobs.serving.models.replica import Replica
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.records.records import open_records
from intertitle.jobs.serving.schemas import ModelDetails
from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.tracking.run import DataInput, TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef
from tests.training.conftest import coloured_things, small_recipe, untrained, words_of
from tests.training.evaluations import captions, log_evaluation, spoiled

GERMAN = ["ein roter Ball", "eine blaue Katze", "ein Hund rennt weit", "nichts"]
ENGLISH = ["a red ball", "a blue cat", "a dog runs far", "nothing"]
NAMES = ("translator", "classifier", "writer", "captioner", "answerer")


def visual_data(features: str, frames: int = 2) -> DataRef:
    spec = backbone_spec("efficientnet_lite0", features)
    made = make_fingerprint(spec, Uniform(frames), "arrow", "float32").features_json()
    return DataRef("corpus", "0", (FeatureRef("features", "0", made, spec.shape[-1]),))


def make_models() -> dict[str, TrainedModel]:
    """A translator with attention, a classifier, a language model, a captioner, an answerer."""
    text = DataRef("corpus", "0")
    source = Tokenizer.words(GERMAN, min_count=1, lowercase=True)
    english = Tokenizer.words(ENGLISH, min_count=1, lowercase=True)
    words = ("tokenizer.kind=words", "source_tokenizer.kind=words", "search.min_tokens=2")
    sentiment = Vocabs(
        Tokenizer.labels(["good", "bad"], size=None), Tokenizer.captions(GERMAN, min_count=1)
    )
    captions = words_of(coloured_things(20))
    # Untrained models would like to stop at once.
    grid = ("model.attention_size=8", "search.min_tokens=3")
    return {
        "translator": untrained(
            small_recipe("seq2seq_attention", *words), text, Vocabs(english, source)
        ),
        "classifier": untrained(small_recipe("sentiment"), text, sentiment),
        "writer": untrained(
            small_recipe("char_lm"), text, Vocabs(Tokenizer.characters(ENGLISH, min_count=1))
        ),
        "captioner": untrained(
            small_recipe("attend_and_tell", *grid), visual_data("grid"), captions
        ),
        "answerer": answerer("both"),
    }


def answerer(uses: str) -> TrainedModel:
    """A model of questions about pictures that uses both of them, or one."""
    answers = Vocabs(
        Tokenizer.labels(["red", "blue", "green", "grey", "black", "white"], size=None),
        Tokenizer.words(["what colour is this"], min_count=1, lowercase=True),
    )
    return untrained(small_recipe("vqa_lstm", f"model.uses={uses}"), visual_data("pooled"), answers)


def log_run(folder: Path, name: str, trained: TrainedModel, **fields: Any) -> RunRef:
    """Log a model as a run of the store in a folder; the fields are those of `TrackedRun.start`."""
    write_mlflow_model(trained, folder / name)
    with TrackedRun.start(f"sqlite:///{folder}/mlflow.db", "serving", name, **fields) as run:
        run.model(folder / name, "model")
    return run.ref


def log_evaluated_run(folder: Path, name: str, trained: TrainedModel) -> RunRef:
    """Log a model whose run has an evaluation, and says what it was trained on."""
    profile = {"items": 700, "references": 1400, "train_examples": 560}
    ref = log_run(
        folder,
        name,
        trained,
        tags={"limits": "trained on noise", "license": "CC0-1.0"},
        inputs=[DataInput("corpus", "corpus", "0", "training", profile=profile)],
    )
    with reopen(ref) as run:
        log_evaluation(
            run, spoiled(captions(12), 0.3), "test", "eval/test/beam_3/20260101T000000.000000"
        )
    return ref


@contextmanager
def client(config: ServerConfig, **headers: str) -> Iterator[TestClient]:
    """An application whose models are in this process, without Ray."""
    routes = {model.name: route_of(config, model) for model in config.models}
    app = create_app(config, routes, open_records(config))
    with TestClient(
        app, "http://127.0.0.1", headers=headers, raise_server_exceptions=False
    ) as opened:
        yield opened


def route_of(config: ServerConfig, model: ModelConfig) -> Route:
    backends = [
        Replica(config, model, spec) if spec else None
        for spec in (model.spec, model.canary, model.shadow)
    ]
    main, canary, shadow = backends
    assert main is not None
    return Route(model, main, canary, shadow)


def described(name: str, **fields: Any) -> ModelDetails:
    """A description of a model that does not exist."""
    details: dict[str, Any] = {
        "name": name,
        "spec": name,
        "version": None,
        "run_id": f"id-{name}",
        "run": name,
        "task": "a task",
        "vocabulary": 10,
        "source_vocabulary": 0,
        "visual_input": "nothing",
        "has_source": False,
        "output": "label",
        "parameters": 1000,
        "step": 100,
        "recipe": "recipe",
        "search": {},
        "scores": [],
        "best": [],
        "worst": [],
        "signature": {},
        "corpus": "corpus",
        "attention": False,
        "uses": None,
        "data": {},
        "features": [],
        "limits": "",
        "license": "",
    }
    return ModelDetails.model_validate(details | fields)


def png(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def noise_png(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture unlike others."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
