"""Which frames are looked at: by time, so that a variable frame rate is sampled right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intertitle.pipeline.decoding.sampling import (
    Every,
    Rate,
    Sampling,
    Uniform,
    parse_sampling,
    select_frames,
)
from intertitle.pipeline.errors import UserError

rules = st.one_of(st.builds(Uniform, st.integers(1, 40)), st.builds(Rate, st.floats(0.01, 50)))
gaps = st.lists(st.floats(0.001, 2), min_size=1, max_size=60)


@given(gaps, st.floats(0, 5), rules, st.data())
def test_frames_are_those_shown_in_the_middle_of_equal_spans_of_time(
    gaps: list[float], first: float, rule: Sampling, data: st.DataObject
) -> None:
    edges = first + np.cumsum([0.0, *gaps])
    limits = data.draw(
        st.just((None, None))
        | st.tuples(st.floats(edges[0], edges[-1]), st.floats(edges[0], edges[-1])).map(sorted)
    )
    if limits[0] is not None:
        assume(limits[1] - limits[0] > 1e-6)
    begin, end = limits if limits[0] is not None else (edges[0], edges[-1])
    chosen = select_frames(edges[:-1], float(edges[-1]), rule, tuple(limits))

    if isinstance(rule, Uniform):
        count, span = rule.num_frames, (end - begin) / rule.num_frames
    else:
        count, span = max(1, round((end - begin) * rule.fps)), min(1 / rule.fps, end - begin)
    assert len(chosen) == count
    assert chosen.min() >= 0 and chosen.max() < len(gaps)
    assert (np.diff(chosen) >= 0).all()
    middles = begin + (np.arange(count) + 0.5) * span
    assert middles[-1] <= end + 1e-9
    assert (edges[chosen] <= middles + 1e-9).all()
    assert (middles <= edges[chosen + 1] + 1e-9).all()


def test_a_burst_of_frames_is_not_preferred() -> None:
    burst_then_slow = np.concatenate([np.arange(10) / 10, np.arange(1, 10)])
    chosen = select_frames(burst_then_slow, 10.0, Uniform(10))
    assert chosen.tolist() == [5, *range(10, 19)]


def test_fewer_frames_than_asked_for_are_repeated() -> None:
    assert select_frames(np.array([0.0, 1.0]), 2.0, Uniform(6)).tolist() == [0, 0, 0, 1, 1, 1]
    assert select_frames(np.array([0.0]), 0.0, Uniform(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("segment", [(2.0, None), (3.0, 4.0), (None, -1.0), (1.0, 1.0)])
def test_a_segment_outside_the_video_is_refused(segment: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="lies outside"):
        select_frames(np.array([0.0, 1.0]), 2.0, Uniform(2), segment)


def test_a_refused_segment_is_told_with_the_times_of_the_video() -> None:
    with pytest.raises(
        ValueError, match=r"^segment \(9.0, None\) lies outside the video's 4.0..7.0 s"
    ):
        select_frames(np.array([4.0, 5.0, 6.0]), 7.0, Uniform(2), (9.0, None))


@pytest.mark.parametrize("rule", [Uniform(3), Rate(1), Every(1)])
def test_a_segment_that_goes_beyond_the_video_ends_where_it_ends(rule: Sampling) -> None:
    starts_s = np.array([4.0, 5.0, 6.0])
    for segment in ((None, None), (0.0, 99.0), (4.0, 7.0), (None, 99.0), (0.0, None)):
        assert select_frames(starts_s, 7.0, rule, segment).tolist() == [0, 1, 2]
    assert select_frames(starts_s, 7.0, rule, (5.0, 99.0)).tolist()[0] == 1
    assert select_frames(starts_s, 7.0, rule, (0.0, 6.0)).tolist()[-1] == 1


@given(st.builds(Uniform, st.integers(1)) | st.builds(Rate, st.floats(1e-300, 1e300)))
def test_a_rule_is_its_text(rule: Sampling) -> None:
    assert parse_sampling(str(rule)) == rule


def test_rules_read_well() -> None:
    assert [str(r) for r in (Uniform(8), Rate(2), Rate(2.5))] == ["uniform:8", "fps:2", "fps:2.5"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "uniform",
            "uniform:2.5",
            "fps:fast",
            "every:x",
            "uniform:2x",
            "uniform:2x0",
            "every:1.5",
        ),
        *("all:5", "frames:5", "gop:5", "zoom:5"),
    ],
)
def test_text_that_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"allowed: uniform:.* or fps:.* or every:"):
        parse_sampling(text)


@pytest.mark.parametrize(
    "text", ["uniform:0", "uniform:-1", "fps:0", "fps:inf", "fps:nan", "every:0"]
)
def test_rules_without_frames_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"allowed: (1 or )?more"):
        parse_sampling(text)


def test_every_third_frame_whatever_its_time() -> None:
    starts_s = np.array([0.0, 0.1, 0.2, 5.0, 6.0, 6.1, 9.0])
    assert select_frames(starts_s, 10.0, Every(3)).tolist() == [0, 3, 6]
    assert select_frames(starts_s, 10.0, Every(1)).tolist() == list(range(7))
    assert select_frames(starts_s, 10.0, Every(2), (0.15, 6.1)).tolist() == [1, 3]
    assert select_frames(starts_s, 10.0, Every(2), (7.0, 8.0)).tolist() == [5]
    assert select_frames(starts_s, 10.0, Every(99)).tolist() == [0]
    assert parse_sampling("every:5") == Every(5) and str(Every(5)) == "every:5"


def test_too_many_frames_are_refused() -> None:
    for rule in (Uniform(2_000_000), Rate(1e300)):
        with pytest.raises(OverflowError, match="allowed: 1000000"):
            select_frames(np.array([0.0]), 1.0, rule)
    for rule in (Uniform(1_000_001), Rate(1_000_001)):
        with pytest.raises(OverflowError, match="1000001 frames here"):
            select_frames(np.array([0.0]), 1.0, rule)
    for rule in (Uniform(1_000_000), Rate(1_000_000)):
        assert len(select_frames(np.array([0.0]), 1.0, rule)) == 1_000_000


def test_a_clip_has_frames_over_its_span_or_those_that_follow() -> None:
    starts = np.arange(100) / 10.0
    spread = select_frames(starts, 10.0, Uniform(2, 4)).reshape(2, 4)
    assert spread.tolist() == [[6, 18, 31, 43], [56, 68, 81, 93]]
    assert np.array_equal(select_frames(starts, 10.0, Rate(0.2, 4)).reshape(2, 4), spread)
    following = select_frames(starts, 10.0, Every(49, 4)).reshape(3, 4)
    # The last clip is cut off by the end.
    assert following.tolist() == [[0, 1, 2, 3], [49, 50, 51, 52], [98, 99, 99, 99]]
    # As many clips as there are frames without a window.
    assert len(following) == len(select_frames(starts, 10.0, Every(49)))


@pytest.mark.parametrize("rule", [Uniform(8, 16), Rate(2.5, 16), Rate(2.0, 16), Every(5, 16)])
def test_a_rule_of_clips_is_read_back(rule: Sampling) -> None:
    assert parse_sampling(str(rule)) == rule
    assert str(rule).endswith("x16")
