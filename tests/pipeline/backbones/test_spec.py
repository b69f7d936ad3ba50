"""What a specification says of the frames that a network takes."""

from __future__ import annotations

import numpy as np

from intertitle.pipeline.backbones.spec import as_clips, describe_crop, seen_part


def test_frames_are_cut_as_the_network_cuts_them() -> None:
    frames = np.arange(2 * 9 * 9 * 3, dtype=np.uint8).reshape(2, 9, 9, 3)
    part = seen_part(frames, f"RGB, {describe_crop(4)}, x / 255")
    assert np.array_equal(part, frames[:, 2:6, 2:6])
    assert seen_part(frames, "RGB, x / 255") is frames


def test_frames_are_grouped_into_clips() -> None:
    frames = np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3)
    assert np.array_equal(as_clips(frames, 3)[1], frames[3:])
    assert as_clips(frames, 1) is frames
