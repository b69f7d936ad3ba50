"""Scores of segments: cases worked by hand from the definition, and what holds for any labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertitle.training.evaluation.metrics.segment_metrics import (
    Segment,
    edit_score,
    overlap_f1,
    segments_of,
)
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.scorers import Scorer

NAMES = ("edit_score", "f1_10", "f1_25", "f1_50")
FRAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


def scores_of(true: str, predicted: str, background: str | None = None) -> tuple[float, ...]:
    """Edit score, and F1 at 10, 25 and 50, of one video; a letter is the label of a frame."""
    scorer = Scorer("label_per_frame", [list(true)], background=background)
    values = scorer.score([list(predicted)]).values
    return tuple(values[name] for name in NAMES)


def test_segments_are_runs_and_those_beside_background_stay_apart() -> None:
    assert segments_of("aabba") == [Segment("a", 0, 2), Segment("b", 2, 4), Segment("a", 4, 5)]
    assert segments_of("aab-a-", "-") == [
        Segment("a", 0, 2),
        Segment("b", 2, 3),
        Segment("a", 4, 5),
    ]


@pytest.mark.parametrize(
    ("true", "predicted", "background", "expected"),
    [
        # a b a for a b: one insertion of three. The second a overlaps no a; b overlaps 2 of 5.
        ("aaabbbbb", "aaaabbaa", None, (200 / 3, 80, 80, 40)),
        # One segment for two: of two edits one deletion. It overlaps the first a, 4 of 8.
        ("aaaabbbb", "aaaaaaaa", None, (50, 200 / 3, 200 / 3, 200 / 3)),
        # Exactly 10 % of the frames of both count, 1 of 11 do not.
        ("a" * 10, "a" + "b" * 9, None, (50, 200 / 3, 0, 0)),
        ("a" * 11, "a" + "b" * 10, None, (50, 0, 0, 0)),
        # Over-segmentation: three a for one. The first overlaps 4 of 10, the others add no right
        # one, as the true segment is used: 2 · 1 / (5 + 1).
        ("aaaaaaaaaa", "aaaabaabaa", None, (20, 100 / 3, 100 / 3, 0)),
        # The last a overlaps most, 5 of 8, but is wrong where the first, 1 of 8, was taken.
        ("aaaaaaaa", "abbaaaaa", None, (100 / 3, 50, 50, 50)),
        # Right labels at the wrong time.
        ("aabb", "bbaa", None, (0, 0, 0, 0)),
        ("aaabbbccc", "aaacccbbb", None, (100 / 3, 100 / 3, 100 / 3, 100 / 3)),
        # Without background a - a becomes two segments, and b alone stays.
        ("aa--aab", "aaaaaab", "-", (200 / 3, 80, 80, 40)),
        ("aa--aab", "aaaaaab", None, (50, 200 / 3, 200 / 3, 100 / 3)),
        # Nothing happens: right, and missed.
        ("----", "----", "-", (100, 100, 100, 100)),
        ("----", "-aa-", "-", (0, 0, 0, 0)),
        ("-aa-", "----", "-", (0, 0, 0, 0)),
    ],
)
def test_worked_cases(
    true: str, predicted: str, background: str | None, expected: tuple[float, ...]
) -> None:
    assert scores_of(true, predicted, background) == pytest.approx(expected)


def test_a_split_has_the_mean_of_its_videos_whatever_their_length() -> None:
    scorer = Scorer("label_per_frame", [list("aabb"), list("c" * 90)])
    scores = scorer.score([list("aaaa"), list("c" * 90)])
    each = combine("edit_score", scores.statistics["edit_score"])
    assert (each.tolist(), scores.values["edit_score"]) == ([50, 100], 75)
    assert scores.signatures["edit_score"] == "edit_score|unit:video|background:none"


def test_a_background_that_no_frame_has_is_warned_of() -> None:
    scorer = Scorer("label_per_frame", [list("ab")], background="0")
    scores = scorer.score([list("ab")])
    assert scores.warnings == ("evaluation.background: '0' is the label of no frame",)
    assert scores.signatures["f1_50"] == "f1_50|unit:video|background:0"


@given(FRAMES, FRAMES)
def test_scores_are_bounded_and_100_only_for_equal_segments(
    true: list[str], predicted: list[str]
) -> None:
    pair = segments_of(predicted), segments_of(true)
    edit, *f1 = edit_score(*pair), *(overlap_f1(*pair, least) for least in (0.1, 0.25, 0.5))
    assert 0 <= edit <= 100
    assert 100 >= f1[0] >= f1[1] >= f1[2] >= 0
    labels = [[segment.label for segment in side] for side in pair]
    assert (edit == 100) == (labels[0] == labels[1])
    assert edit_score(*pair[::-1]) == edit
    if predicted == true:
        assert (edit, *f1) == (100, 100, 100, 100)


@given(FRAMES, FRAMES, st.data())
def test_the_edit_score_does_not_depend_on_the_lengths_of_segments(
    true: list[str], predicted: list[str], data: st.DataObject
) -> None:
    stretched = [
        label for label in predicted for _ in range(data.draw(st.integers(1, 4), label="times"))
    ]
    expected = edit_score(segments_of(predicted), segments_of(true))
    assert edit_score(segments_of(stretched), segments_of(true)) == expected


@given(FRAMES, FRAMES, st.integers(2, 5))
def test_f1_does_not_depend_on_the_number_of_frames_a_second(
    true: list[str], predicted: list[str], times: int
) -> None:
    slow = [[label for label in side for _ in range(times)] for side in (predicted, true)]
    for least in (0.1, 0.25, 0.5):
        expected = overlap_f1(segments_of(predicted), segments_of(true), least)
        assert overlap_f1(*map(segments_of, slow), least) == expected
