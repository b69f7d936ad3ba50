"""Single files, here and now, become what `precompute` made of a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.item_file import open_item_file
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import FileError, UserError
from intertitle.pipeline.extract import Reading, features_of_file, files_below, source_of_file
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.importers.kinds import kind_of


def test_a_file_has_the_features_that_the_store_has(clips: Path, clip_features: Path) -> None:
    store = FeatureStore(clip_features)
    features = features_of_file(store.snapshot.fingerprint.features_json())
    for item in Corpus(clips).items()[:2]:
        assert np.array_equal(features(clips / item.uri), store.features(item.key))


def test_a_file_that_cannot_be_decoded_is_named(clip_features: Path, tmp_path: Path) -> None:
    features = features_of_file(FeatureStore(clip_features).snapshot.fingerprint.features_json())
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    for name, error in (("text.mp4", "unreadable"), ("none.mp4", "missing")):
        with pytest.raises(FileError, match=f"^{tmp_path / name}: ") as refused:
            features(tmp_path / name)
        assert refused.value.error == error


def test_features_of_another_make_are_refused(clip_features: Path) -> None:
    made_with = FeatureStore(clip_features).snapshot.fingerprint.features_json()
    with pytest.raises(UserError, match="backbone: the model saw features of"):
        features_of_file(made_with.replace("float32", "float16"))


def write_network(file: Path, weight: float) -> None:
    """Pictures of 32 x 32 pixels to a grid of 4 x 4 cells."""
    weights = numpy_helper.from_array(np.full((2, 3, 8, 8), weight, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 32, 32))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file)


def test_features_that_are_not_finite_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_network(tmp_path / "net.onnx", float("inf"))
    spec = backbone_spec(f"onnx:{tmp_path}/net.onnx", "grid")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    make = make_fingerprint(spec, Uniform(1), "arrow", "float32")
    with pytest.raises(FileError, match=r"red\.png: its features are not finite") as refused:
        features_of_file(make.features_json())(tmp_path / "red.png")
    assert refused.value.error == "not_finite"


def test_another_backbone_gives_a_grid_as_its_fingerprint_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "net.onnx", 1.0)
    spec = backbone_spec(f"onnx:{tmp_path}/net.onnx", "grid")
    # Made on a GPU, say: a model is fed all the same.
    make = make_fingerprint(spec, Uniform(4), "webdataset", "bfloat16")
    (tmp_path / "net.onnx").unlink()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    values = features_of_file(make.features_json())(Path("red.png"))
    assert values.shape == (1, 16, 2) and values.dtype == np.float32


def test_the_ending_says_what_a_file_is() -> None:
    assert kind_of(Path("a.MP4")) == "video" and kind_of(Path("b.c.jpeg")) == "image"
    with pytest.raises(UserError, match=r"a\.txt: ending '\.txt', allowed: .*\.avi"):
        kind_of(Path("a.txt"))


def test_a_folder_is_all_videos_and_photographs_below_it(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    film, photo = tmp_path / "more" / "film.MP4", tmp_path / "photo.png"
    for file in (photo, film, tmp_path / "letter.txt"):
        file.write_bytes(b"")
    assert files_below(tmp_path) == ([film, photo], [])
    assert files_below(photo) == ([photo], [])
    film.unlink()
    with pytest.raises(UserError, match=r"more: no videos or images in it, allowed: .*\.mp4"):
        files_below(tmp_path / "more")


def test_what_is_hidden_or_linked_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    for file in (folder / "a.jpg", folder / "._a.jpg", tmp_path / "elsewhere" / "b.jpg"):
        file.touch()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    hidden = f"{folder}: 1 hidden files left out"
    links = f"{folder}: 1 links left out: --follow-links follows them"
    assert files_below(folder) == ([folder / "a.jpg"], [hidden, links])
    followed = [folder / "a.jpg", folder / "more" / "b.jpg"]
    assert files_below(folder, follow_links=True) == (followed, [hidden])


@pytest.mark.parametrize("name", ["../photo.jpg", "./../photo.jpg", "~/photo.jpg", "link.jpg"])
def test_a_person_may_name_a_file_in_any_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    (tmp_path / "here" / "link.jpg").symlink_to("../photo.jpg")
    monkeypatch.chdir(tmp_path / "here")
    source = source_of_file(Path(name))
    assert source.item.key == str(Path(name))
    with open_item_file(source) as (path, _):
        assert path.samefile(tmp_path / "photo.jpg")


def test_an_animation_is_a_video_unless_the_user_says_image(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "b.gif")
    assert source_of_file(tmp_path / "a.gif").item.kind == "video"
    assert source_of_file(tmp_path / "b.gif").item.kind == "image"
    reading = Reading(animations_as_images=True)
    assert source_of_file(tmp_path / "a.gif", reading).item.kind == "image"


def test_the_limit_of_pixels_is_the_one_that_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_network(tmp_path / "net.onnx", 1.0)
    spec = backbone_spec(f"onnx:{tmp_path}/net.onnx", "grid")
    made = make_fingerprint(spec, Uniform(1), "arrow", "float32").features_json()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert features_of_file(made, Reading(max_pixels=1200))(tmp_path / "red.png").shape[0] == 1
    with pytest.raises(FileError, match="40 x 30 pixels, allowed: 1199 in all") as refused:
        features_of_file(made, Reading(max_pixels=1199))(tmp_path / "red.png")
    assert refused.value.error == "too_large"
