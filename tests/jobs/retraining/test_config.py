"""What a retraining's file may say."""

from pathlib import Path

import pytest

from intertitle.jobs.retraining.config import load_config
from intertitle.pipeline.errors import UserError

WHOLE = """
model = "clips"
[data]
format = "folder"
source = ["inbox", "s3://bucket/clips"]
corpus = "corpus"
[train]
recipe = "s2vt"
checkpoints = "checkpoints"
[frozen]
corpus = "/data/frozen"
[hooks.promoted]
url = "https://example.org/told"
"""


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "clips.toml"
    file.write_text(WHOLE)
    config = load_config(file)
    assert config.data.source == [str(tmp_path / "inbox"), "s3://bucket/clips"]
    assert config.data.corpus == str(tmp_path / "corpus")
    assert (config.frozen.corpus, config.frozen.split) == ("/data/frozen", "test")
    assert (config.data.features, config.train.recipe) == ([], "s2vt")


def test_several_stores_have_a_network_each(tmp_path: Path) -> None:
    file = tmp_path / "clips.toml"
    stores = 'features = ["frames", "/motion"]\nbackbone = ["a", "b"]'
    file.write_text(WHOLE.replace("[train]", f"{stores}\n[train]"))
    config = load_config(file)
    assert config.data.features == [str(tmp_path / "frames"), "/motion"]
    assert config.data.backbone == ["a", "b"]
    assert config.frozen.features == []


@pytest.mark.parametrize(
    ("was", "becomes", "named"),
    [
        ('model = "clips"', 'model = "a clip"', "model: 'a clip'"),
        ('recipe = "s2vt"', "", "train.recipe: Field required"),
        ("[frozen]", "[frozn]", "frozen: Field required"),
        ('recipe = "s2vt"', 'recipe = "s2vt"\ninit_from = "best"', "train.init_from: 'best'"),
        ('url = "https://example.org/told"', "", "either command or url"),
        ("[train]", 'features = ["a", "b"]\n[train]', "backbone: 1 of them"),
        ("[frozen]", '[frozen]\nfeatures = ["a"]', "the number of data.features, 0"),
        ("[data]", "[data", "not TOML"),
        ("[hooks.promoted]", "[gate]\nmetric = 'm'\n[hooks.promoted]", "gate.metric: 'm'"),
        ("[hooks.promoted]", "[gate.guards]\nm = 1\n[hooks.promoted]", "gate.guards.m"),
        ("[hooks.promoted]", "[gate.required]\nm = 1\n[hooks.promoted]", "gate.required.m"),
        ('format = "folder"', 'format = "folder"\ntarget_language = "zh"', "no --target-language"),
        ('format = "folder"', 'format = "msvd"\nsource_language = "zh"', "no --source-language"),
        ('format = "folder"', 'format = "msvd"\ntarget_language = "?"', "allowed: a code"),
        ('format = "folder"', 'target_language = "zh"', "allowed with a format"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, was: str, becomes: str, named: str) -> None:
    file = tmp_path / "clips.toml"
    file.write_text(WHOLE.replace(was, becomes))
    with pytest.raises(UserError) as error:
        load_config(file)
    assert str(file) in str(error.value)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
