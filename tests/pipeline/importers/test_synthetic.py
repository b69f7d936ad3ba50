"""Drawn clips: what is seen, what is said of it, and that only the order of frames tells twins."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import decord
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.synthetic import judge_order, parse_motions, render_corpus
from intertitle.pipeline.importers.synthetic.draw import draw
from intertitle.pipeline.importers.synthetic.scene import (
    BACKWARDS,
    SEQUENCES,
    Pose,
    motions_by_frame,
    reverse,
)
from intertitle.pipeline.importers.synthetic.write import MIN_CLIPS, plan_clip, plan_labelled_clip

# Enough for two processes to be started; five times round the circle of kinds.
NUM_CLIPS = 120

clips = st.builds(plan_clip, st.integers(0, 2**32), st.integers(0, 10_000))
labelled_clips = st.builds(plan_labelled_clip, st.integers(0, 2**32), st.integers(0, 10_000))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered")
    render_corpus(out, num_clips=NUM_CLIPS, seed=3, num_processes=1)
    return out


def decode(path: Path) -> np.ndarray:
    reader = decord.VideoReader(str(path))
    return reader.get_batch(range(len(reader))).asnumpy()


def rows_of(out: Path) -> list[dict]:
    return pq.read_table(out / "scenes.parquet").to_pylist()


def test_files_are_the_same_to_the_byte_with_two_processes(rendered: Path, tmp_path: Path) -> None:
    seen = []
    report = render_corpus(
        tmp_path,
        num_clips=NUM_CLIPS,
        seed=3,
        num_processes=2,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    files = sorted(p.relative_to(rendered) for p in rendered.rglob("*") if p.is_file())
    assert len(files) == NUM_CLIPS + 3
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for file in files:
        assert (rendered / file).read_bytes() == (tmp_path / file).read_bytes(), file
    assert seen == [(done, NUM_CLIPS) for done in range(1, NUM_CLIPS + 1)]
    assert (report.items, report.examples) == (NUM_CLIPS, NUM_CLIPS)
    assert report.references >= 4 * NUM_CLIPS


def test_another_seed_gives_other_scenes() -> None:
    assert plan_clip(0, 0).scene != plan_clip(1, 0).scene


def test_a_clip_decodes_to_the_frames_that_were_drawn(rendered: Path) -> None:
    corpus = Corpus(rendered)
    for index, item in list(enumerate(corpus.items()))[::9]:
        reader = decord.VideoReader(str(corpus.locate(item)))
        assert reader.get_avg_fps() == 12
        frames = reader.get_batch(range(len(reader))).asnumpy()
        drawn = draw(plan_clip(3, index).scene)
        assert frames.shape == drawn.shape == (24, 160, 160, 3)
        assert np.abs(frames.astype(int) - drawn).mean() < 4
        assert corpus.locate(item).stat().st_size < 60_000


def test_twins_show_the_very_same_frames_in_opposite_order(rendered: Path) -> None:
    rows = rows_of(rendered)
    pairs = [(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True) if a["order_only"]]
    assert len(pairs) == NUM_CLIPS / 2 * 10 / 12
    for one, other in pairs[::4]:
        assert one["split"] == other["split"]
        assert one["motions"] == other["backwards"] != other["motions"] == one["backwards"]
        frames, twin = (decode(rendered / "clips" / f"{row['key']}.mp4") for row in (one, other))
        assert np.array_equal(frames, twin[::-1])
        assert np.array_equal(frames.mean(axis=0), twin.mean(axis=0))
        assert not np.array_equal(frames, twin)


def test_splits_share_kinds_evenly_and_directions_exactly() -> None:
    # One whole round: every kind has been through the whole circle of splits.
    planned = [plan_clip(0, index) for index in range(480)]
    assert Counter(c.split for c in planned) == {"train": 336, "val": 72, "test": 72}
    for split, share in (("train", 28), ("val", 6), ("test", 6)):
        part = [c.scene for c in planned if c.split == split]
        assert Counter(scene.kind for scene in part) == {
            "then": 3 * share,
            **dict.fromkeys(("left/right", "up/down", "two"), 2 * share),
            **dict.fromkeys(("grows/shrinks", "turns", "still"), share),
        }
        # "left, still" is one thing of one shape and another of two.
        shown = Counter((scene.kind, scene.motions) for scene in part if scene.order_only)
        for scene in filter(lambda scene: scene.order_only, part):
            assert shown[scene.kind, scene.motions] == shown[scene.kind, reverse(scene).motions]


def test_kinds_that_do_not_hang_on_order_say_so(rendered: Path) -> None:
    not_order_only = {row["kind"] for row in rows_of(rendered) if not row["order_only"]}
    order_only = {row["kind"] for row in rows_of(rendered) if row["order_only"]}
    assert not_order_only == {"turns", "still"}
    assert order_only == {"left/right", "up/down", "grows/shrinks", "then", "two"}


def test_no_sequence_reads_the_same_backwards() -> None:
    assert ("left", "still") in SEQUENCES and ("still", "right") in SEQUENCES
    for clip in (plan_clip(0, index) for index in range(400)):
        if clip.scene.kind == "then":
            assert clip.scene.motions in SEQUENCES and clip.scene.order_only


def test_beside_a_large_shape_that_moves_a_small_one_of_another_shape_and_colour_rests() -> None:
    scenes = [plan_clip(0, index).scene for index in range(480)]
    pairs = [scene.actors for scene in scenes if scene.kind == "two"]
    assert len(pairs) == 80
    for large, small in pairs:
        assert (large.size, small.size) == ("large", "small")
        assert large.shape != small.shape and large.colour != small.colour
        assert large.motions[0] in ("left", "right", "up", "down")
        assert small.motions == ("still",) and len(set(small.poses)) == 1


def test_every_shape_is_drawn_in_every_colour() -> None:
    actors = [actor for index in range(480) for actor in plan_clip(0, index).scene.actors]
    shown = {(actor.shape, actor.colour) for actor in actors}
    shapes, colours = ("circle", "square", "triangle"), ("red", "green", "blue", "black")
    assert shown == set(product(shapes, colours))


def test_the_fewest_clips_leave_no_split_empty(tmp_path: Path) -> None:
    render_corpus(tmp_path, num_clips=MIN_CLIPS)
    assert set(Corpus(tmp_path).splits()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_clips": 3}, "num_clips: 3"), ({"num_clips": 20, "seed": -1}, "seed: -1")],
)
def test_unusable_arguments_are_named(
    arguments: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        render_corpus(tmp_path / "none", **arguments)
    assert not (tmp_path / "none").exists()


@settings(max_examples=200, deadline=None)
@given(clips)
def test_every_reference_states_every_motion_and_no_two_are_alike(clip) -> None:
    assert len(set(clip.targets)) == len(clip.targets) >= 4
    for reference in clip.targets:
        assert parse_motions(reference) == clip.scene.motions
        assert reference == " ".join(reference.lower().split())
        assert " a orange" not in f" {reference}"


@settings(max_examples=100, deadline=None)
@given(clips)
def test_shapes_stay_inside_the_frame_and_apart(clip) -> None:
    for actor in clip.scene.actors:
        for pose in actor.poses:
            assert pose.radius <= min(pose.x, pose.y)
            assert max(pose.x, pose.y) <= 160 - pose.radius
    if len(clip.scene.actors) == 2:
        for one, other in zip(*(actor.poses for actor in clip.scene.actors), strict=True):
            assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


@settings(max_examples=40, deadline=None)
@given(clips)
def test_what_turns_or_moves_can_be_seen_to(clip) -> None:
    frames = draw(clip.scene).astype(int)
    assert frames[0].std() > 0
    change = [np.abs(frames[i] - frames[j]).max() for i, j in ((0, 6), (6, 12), (12, 18), (18, 23))]
    if clip.scene.motions == ("still",):
        assert max(change) == 0
    else:
        assert max(change) > 50


def test_reversing_twice_changes_nothing() -> None:
    for index in range(40):
        scene = plan_clip(0, index).scene
        assert reverse(reverse(scene)) == scene


def test_the_vocabulary_is_small() -> None:
    words = {w for i in range(1000) for r in plan_clip(0, i).targets for w in r.split()}
    assert 40 < len(words) <= 60


def test_motions_are_found_in_clumsy_captions() -> None:
    assert parse_motions("a a red circle moves to left and then <unk> stops stops") == (
        "left",
        "still",
        "still",
    )
    assert parse_motions("The SQUARE does not move") == ("still",)
    assert parse_motions("a large red circle moves") is None
    assert parse_motions("") is None


def test_captions_are_judged_by_their_order() -> None:
    moves_and_stops = {"motions": ["left", "still"], "backwards": ["still", "right"]}
    assert judge_order("the star slides to the left and then stops", moves_and_stops) == "right"
    assert judge_order("a star stays still and then goes right", moves_and_stops) == "backwards"
    assert judge_order("a star goes left", moves_and_stops) == "neither"
    assert judge_order("a star", moves_and_stops) == "neither"
    # What looks the same backwards is right either way.
    assert judge_order("a star spins", {"motions": ["turns"], "backwards": ["turns"]}) == "right"


def motion_between(one: Pose, other: Pose) -> str:
    """What two poses show, seen without knowing how they were made."""
    changes = {
        "left": one.x - other.x,
        "right": other.x - one.x,
        "up": one.y - other.y,
        "down": other.y - one.y,
        "grows": other.radius - one.radius,
        "shrinks": one.radius - other.radius,
        "turns": abs(other.angle - one.angle),
    }
    seen = [motion for motion, change in changes.items() if change > 1e-6]
    assert len(seen) <= 1
    return seen[0] if seen else "still"


@settings(max_examples=200, deadline=None)
@given(labelled_clips)
def test_the_label_of_a_frame_is_what_happens_until_the_next(clip) -> None:
    (actor,) = clip.scene.actors
    seen = [motion_between(*pair) for pair in pairwise(actor.poses)]
    assert clip.targets == (*seen, seen[-1])
    # Each of two motions lasts for a third of the clip at least, and no circle turns.
    assert sorted(Counter(seen).values())[0] >= 8 and set(seen) == set(actor.motions)
    assert not (actor.shape == "circle" and "turns" in seen)
    for pose in actor.poses:
        assert pose.radius <= min(pose.x, pose.y)
        assert max(pose.x, pose.y) <= 160 - pose.radius


@settings(max_examples=50, deadline=None)
@given(labelled_clips)
def test_backwards_every_step_has_the_opposite_label(clip) -> None:
    backwards = motions_by_frame(reverse(clip.scene))
    assert backwards[:-1] == tuple(BACKWARDS[motion] for motion in clip.targets[-2::-1])


def test_labelled_clips_show_every_motion_in_every_split_and_switch_at_many_frames() -> None:
    planned = [plan_labelled_clip(0, index) for index in range(200)]
    assert Counter(clip.split for clip in planned) == {"train": 140, "val": 30, "test": 30}
    for split in ("train", "val", "test"):
        part = [clip for clip in planned if clip.split == split]
        assert {label for clip in part for label in clip.targets} == set(BACKWARDS)
        assert {clip.scene.switch for clip in part} == set(range(8, 16))


def test_a_labelled_corpus_has_a_label_for_each_frame_of_the_files(tmp_path: Path) -> None:
    report = render_corpus(tmp_path, num_clips=MIN_CLIPS, seed=3, frame_labels=True)
    corpus = Corpus(tmp_path)
    for index, example in enumerate(corpus.examples()):
        assert example.targets == plan_labelled_clip(3, index).targets
        assert len(decode(tmp_path / "clips" / f"{example.item_key}.mp4")) == len(example.targets)
    assert set(corpus.splits()) == {"train", "val", "test"}
    assert report.notes[-1] == (
        "a label for each of a clip's 24 frames: `intertitle precompute --every 1`"
    )
