"""The retraining story of README.md: clips come in, a better model takes over, a worse one may not,
and the one before comes back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from intertitle.jobs.retraining.run_slot import NOTHING_NEW, PROMOTED, REFUSED
from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.importers.synthetic import render_corpus
from intertitle.training.inference.model_bundle import load_trained
from intertitle.training.tracking.registry import registry, retraining_runs

CONFIG = """
model = "clips"
[data]
format = "msrvtt"
source = ["inbox"]
corpus = "corpus"
features = "features"
frames = 4
[train]
recipe = "mean_pool_video"
set = [
    "model.embedding_size=48", "model.hidden_size=64", "model.dropout=0.1",
    "model.feature_dropout=0", "optimizer.learning_rate=5e-3", "training.epochs=15",
    "training.batch_tokens=160",
]
checkpoints = "checkpoints"
[frozen]
corpus = "frozen"
features = "frozen-features"
[gate]
metric = "meteor"
margin = 1
guards = { bleu_1 = 2 }
[hooks.promoted]
command = ["sh", "-c", "cat >> told; echo >> told"]
[hooks.refused]
command = ["sh", "-c", "cat >> told; echo >> told"]
"""
# Of the clips drawn: those of the first night, those that come in later, those to choose epochs by;
# the champion and the challengers are measured on the rest.
FIRST, LATER, VAL, DRAWN = 30, 90, 98, 140


class Inbox:
    """A folder in the form of MSR-VTT, which clips are put into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        (folder / "inbox").mkdir()
        drawn = folder / "drawn"
        render_corpus(drawn, num_clips=DRAWN, seed=3, num_processes=1)
        corpus = Corpus(drawn)
        examples = random.Random(1).sample(corpus.examples(), DRAWN)
        self._files = {item.key: corpus.locate(item) for item in corpus.items()}
        self.first, self.later = examples[:FIRST], examples[FIRST:LATER]
        self._val = examples[LATER:VAL]
        self._freeze(examples[VAL:])
        (folder / "clips.toml").write_text(CONFIG)

    def _freeze(self, examples: Sequence[Example]) -> None:
        keys = [e.item_key for e in examples if e.item_key]
        write_corpus(
            self.folder / "frozen",
            [Item(key, str(self._files[key]), "video") for key in keys],
            [Example(e.id, "test", e.item_key, None, e.targets) for e in examples],
        )

    def put(self, train: Sequence[Example]) -> None:
        """There are these clips to learn from, and the same to choose epochs by."""
        videos, sentences = [], []
        for split, examples in (("train", train), ("validate", self._val)):
            for example in examples:
                name = str(example.item_key)
                file = self.folder / "inbox" / f"{name}.mp4"
                if not file.exists():
                    os.link(str(self._files[name]), file)
                videos.append({"video_id": name, "split": split})
                sentences += [
                    {"sen_id": len(sentences) + n, "video_id": name, "caption": said}
                    for n, said in enumerate(example.targets)
                ]
        text = json.dumps({"videos": videos, "sentences": sentences})
        (self.folder / "inbox" / "videodatainfo.json").write_text(text)


@pytest.mark.chaos
def test_killed_in_training_a_slot_ends_on_what_it_began_with_whatever_arrives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_cluster: None,
    intertitle: Callable[..., Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    inbox = Inbox(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", inbox.uri)
    inbox.put(inbox.first)
    slow = {"INTERTITLE_FAILPOINT": ";".join(f"train-step@{n}-0=sleep" for n in range(8, 40))}
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "intertitle.jobs", "retrain", "clips.toml", "--slot", "night"],
            env={**os.environ, **slow},
            stdout=printed,
            stderr=printed,
        )
    while not list(tmp_path.glob("checkpoints/*/checkpoint_*")):
        assert process.poll() is None, (tmp_path / "printed").read_text()
        time.sleep(0.2)
    process.kill()
    process.wait()
    corpus = Corpus(tmp_path / "corpus").fingerprint()

    inbox.put([*inbox.first, *inbox.later])
    for command in (
        ("import", "msrvtt", "inbox", "--out", "corpus"),
        ("precompute", "corpus", "--out", "features", "--frames", 4),
        ("gc", "features"),
    ):
        ended = intertitle(*command)
        assert ended.code == 0, ended.err
    assert Corpus(tmp_path / "corpus").fingerprint() != corpus

    ended = intertitle("retrain", "clips.toml", "--slot", "night", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out.splitlines()[-1])["outcome"] == PROMOTED
    champion = registry.champion("clips", inbox.uri)
    assert champion is not None
    assert load_trained(champion).data.corpus_fingerprint == corpus
    # The next one sees what has come in, and nothing is pinned any more.
    assert len(FeatureStore(tmp_path / "features").snapshot) == LATER + VAL - LATER
    assert not list((tmp_path / "corpus" / "pins").iterdir())
    assert not list((tmp_path / "features" / "pins").iterdir())


@pytest.mark.usefixtures("trains_in_process")
def test_clips_come_in_and_the_gate_says_yes_and_no(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_cluster: None,
    intertitle: Callable[..., Any],
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    inbox = Inbox(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", inbox.uri)
    client = MlflowClient(inbox.uri)

    def slot(day: int) -> dict[str, Any]:
        ended = intertitle(
            *("retrain", "clips.toml", "--slot", f"2026-11-{day}T03:00", "--if-new", "--json")
        )
        assert ended.code == 0, ended.err
        told: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
        return told

    def champion() -> str:
        found = registry.champion("clips", inbox.uri)
        assert found is not None
        return found.run_id

    inbox.put(inbox.first)
    assert slot(20)["outcome"] == PROMOTED
    old = champion()
    before = FeatureStore(tmp_path / "features").snapshot
    assert slot(21)["outcome"] == NOTHING_NEW

    # New clips arrive, and only those are computed.
    everything = [*inbox.first, *inbox.later]
    inbox.put(everything)
    better = slot(22)
    assert better["outcome"] == PROMOTED, better["reasons"]
    new = champion()
    assert new != old
    after = FeatureStore(tmp_path / "features").snapshot
    assert before.shards.items() <= after.shards.items()
    assert len(after) == len(before) + len(inbox.later)

    # Somebody mixes the sentences up: each clip has another's.
    moved = [e.targets for e in everything[7:] + everything[:7]]
    inbox.put(
        [
            Example(e.id, e.split, e.item_key, e.source, t)
            for e, t in zip(everything, moved, strict=True)
        ]
    )
    worse = slot(23)
    assert worse["outcome"] == REFUSED, worse["reasons"]
    assert any(reason.startswith("no: meteor") for reason in worse["reasons"])
    assert champion() == new

    assert intertitle("rollback", "clips").code == 0
    assert champion() == old

    told = (tmp_path / "told").read_text().split("\n")
    assert [json.loads(one)["outcome"] for one in told if one] == [PROMOTED, PROMOTED, REFUSED]
    # All of it is to be read in MLflow.
    history = client.get_registered_model("clips").description
    assert history.count("promoted") == 2
    assert "rolled back" in history
    refused = client.get_run(worse["run_id"])
    assert refused.data.tags[retraining_runs.OUTCOME] == REFUSED
    assert "no: meteor" in refused.data.tags["mlflow.note.content"]
    text = Path(client.download_artifacts(worse["run_id"], "decision.md")).read_text()
    assert text.startswith("## Refused")
