"""What a training takes over from another one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.data.tokenizer import SPECIAL, Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.warm_start import Transfer, transfer
from intertitle.training.models.base import Model
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.runs.train import train
from intertitle.training.tracking.store.client import download
from tests.training.conftest import (
    Trained,
    coloured_things,
    features_of,
    small_recipe,
    write_features,
)

MAKE = {"backbone": "one", "sampling": "uniform:8", "weights_sha256": "0"}
FEATURES = {"standardize.mean", "standardize.deviation", "projection.1.weight", "projection.1.bias"}
CHANGES = {
    "scale_changes.mean",
    "scale_changes.deviation",
    "project_changes.weight",
    "project_changes.bias",
}
BY_TOKEN = {"words.embedding.weight", "words.bias"}


def seen(**changes: str) -> DataRef:
    return DataRef("c", "f", (FeatureRef("s", "n", json.dumps(MAKE | changes), 6),))


def saying(*words: str) -> Vocabs:
    return Vocabs(Tokenizer.captions(words, min_count=1))


def drawn(recipe: Recipe, vocabularies: Vocabs, data: DataRef, seed: int) -> Model:
    torch.manual_seed(seed)
    model = build_model(recipe.model, sizes_of(vocabularies, data))
    for tensor in model.state_dict().values():
        tensor.normal_()
    return model


def moved(
    old: tuple[Recipe, Vocabs, DataRef], new: tuple[Recipe, Vocabs, DataRef]
) -> tuple[Transfer, dict[str, Any], dict[str, Any]]:
    """A transfer, and the tensors of the old and the new model."""
    before, after = drawn(*old, 0), drawn(*new, 1)
    recipe, vocabularies, data = old
    found = transfer(after, *new[1:], TrainedModel(before, vocabularies, recipe, data, 1))
    return found, before.state_dict(), after.state_dict()


S2VT = small_recipe("s2vt")
WORDS = saying("a red ball")


def test_a_model_takes_all_of_one_like_it() -> None:
    found, old, new = moved((S2VT, WORDS, seen()), (S2VT, WORDS, seen()))
    assert found.fresh == {}
    assert set(found.copied) == old.keys() - BY_TOKEN
    assert found.mapped == dict.fromkeys(BY_TOKEN, (7, 7))
    assert found.tensors.keys() == new.keys()
    assert all(torch.equal(old[name], tensor) for name, tensor in found.tensors.items())


@pytest.mark.parametrize("said", [("the red cube", "a ball"), ("ball red",), ("dog",)])
def test_words_keep_what_they_mean_in_another_vocabulary(said: Sequence[str]) -> None:
    words = saying(*said)
    found, old, new = moved((S2VT, WORDS, seen()), (S2VT, words, seen()))
    then, now = WORDS.target.tokens(), words.target.tokens()
    shared = set(then) & set(now)
    assert shared >= set(SPECIAL)
    for name in BY_TOKEN:
        assert found.mapped[name] == (len(shared), len(now))
        for row, token in enumerate(now):
            expected = old[name][then.index(token)] if token in shared else new[name][row]
            assert torch.equal(found.tensors[name][row], expected), token
    assert set(found.copied) == old.keys() - BY_TOKEN


def test_tokens_of_another_kind_are_not_mapped() -> None:
    pieces = Vocabs(Tokenizer.words(["a red ball"], min_count=1, lowercase=True))
    found, _, _ = moved((S2VT, WORDS, seen()), (S2VT, pieces, seen()))
    assert found.fresh == dict.fromkeys(BY_TOKEN, "tokens are captions, not words")
    assert found.mapped == {}


def test_a_larger_model_takes_what_has_kept_its_size() -> None:
    larger = small_recipe("s2vt", "model.hidden_size=20")
    found, old, _ = moved((S2VT, WORDS, seen()), (larger, WORDS, seen()))
    assert set(found.copied) == FEATURES | CHANGES | {"words.likeness.bias"}
    assert found.mapped.keys() == BY_TOKEN
    assert found.fresh["words.likeness.weight"] == "size [12, 16], not [12, 20]"
    assert found.tensors.keys() | found.fresh.keys() == old.keys()
    assert not found.tensors.keys() & found.fresh.keys()


def test_what_meets_features_is_left_if_they_are_of_another_make() -> None:
    data = seen(backbone="another")
    found, old, _ = moved((S2VT, WORDS, seen()), (S2VT, WORDS, data))
    assert found.fresh == dict.fromkeys(FEATURES | CHANGES, "features of another make")
    assert found.tensors.keys() == old.keys() - FEATURES - CHANGES


def test_features_of_other_frames_are_of_the_same_make() -> None:
    found, _, _ = moved((S2VT, WORDS, seen()), (S2VT, WORDS, seen(sampling="fps:2")))
    assert found.fresh == {}


def test_a_model_takes_its_words_from_one_of_another_kind() -> None:
    stream = small_recipe("char_lm", "tokenizer.kind=captions")
    found, _, new = moved((stream, WORDS, DataRef("c", "f")), (S2VT, WORDS, seen()))
    assert found.mapped.keys() == BY_TOKEN
    assert found.copied == ()
    assert found.fresh == dict.fromkeys(new.keys() - BY_TOKEN, "the old model has none")


def test_a_transfer_tells_what_it_took_and_what_it_left() -> None:
    larger = small_recipe("s2vt", "model.hidden_size=20")
    found, _, _ = moved((S2VT, WORDS, seen()), (larger, saying("a dog"), seen(backbone="b")))
    lines = found.describe()
    assert lines[0] == "taken: words.likeness.bias"
    assert "taken by token: words.bias, 5 of 6 rows" in lines
    assert any(
        line.startswith("left as drawn, features of another make: standardize.mean, ")
        for line in lines
    )
    assert json.loads(found.to_json()) == {
        "taken": ["words.likeness.bias"],
        "mapped": {name: [5, 6] for name in BY_TOKEN},
        "left": found.fresh,
    }


def begin(trained: Trained, things: DataRef, name: str, *settings: str, **how: Any) -> Any:
    # A rate at which nothing moves: what the run keeps is what it began with.
    recipe = small_recipe("s2vt", "training.epochs=1", "optimizer.learning_rate=1e-30", *settings)
    return train(
        recipe,
        Path(things.corpus),
        Path(features_of(things).path),
        workers=1,
        tracking_uri=trained.tracking_uri,
        checkpoints=trained.checkpoints,
        name=name,
        init_from="first",
        **how,
    )


def test_a_run_begins_with_the_weights_of_another(
    trained: Trained, things: DataRef, trains_in_process: None
) -> None:
    from mlflow import MlflowClient

    told: list[Transfer] = []
    # The average of weights that never move is what they are.
    average = "optimizer.average_decay=0.9"
    result = begin(trained, things, "second", average, on_transfer=told.append)
    one, other = (
        TrainedModel.read(download(run, "model")).model.state_dict()
        for run in (trained.result.run, result.run)
    )
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    assert [found.fresh for found in told] == [{}]
    assert result.evaluation.scores.values == pytest.approx(
        trained.result.evaluation.scores.values, rel=1e-3
    )
    client, run_id = MlflowClient(trained.tracking_uri), result.run.run_id
    assert client.get_run(run_id).data.tags["init_from"] == trained.result.run.run_id
    kept = Path(client.download_artifacts(run_id, "transfer.json"))
    assert json.loads(kept.read_text()) == json.loads(told[0].to_json())


def test_a_run_of_which_nothing_fits_is_refused(
    trained: Trained, things: DataRef, tmp_path: Path
) -> None:
    store = write_features(tmp_path, coloured_things(60), weights="f")
    other = replace(things, features=(replace(features_of(things), path=str(store)),))
    settings = ("model.embedding_size=9", "model.hidden_size=9", "tokenizer.kind=words")
    with pytest.raises(UserError, match="--init-from first: nothing of its model fits s2vt"):
        begin(trained, other, "third", *settings)


def test_a_run_goes_on_with_what_it_began_with(intertitle: Callable[..., Any]) -> None:
    ended = intertitle("train", "--resume", "one", "--init-from", "other")
    assert (ended.code, ended.out) == (2, "")
    assert "--resume: a run goes on with the recipe and the data it began with" in ended.err
