"""Where videos begin, what is shown of them, and the words of captions."""

from __future__ import annotations

import numpy as np
import pytest

from aapt_video.evaluate.rollouts import frame_at, sections, shown_seconds, starts
from aapt_video.evaluate.words import Vocabulary, average_precision, vocabulary
from aapt_video.train.clips import controls


def test_starts_are_spread_over_the_clips_and_borrow_controls_where_a_clip_ends(held_out):
    chosen = starts(held_out, 3, 60, "camera")
    assert [start.clip for start in chosen] == [0, 8, 16]
    assert all(start.controls.shape == (60, 4, 4, 4) for start in chosen)
    assert np.allclose(chosen[1].controls[24:48], controls(held_out, 9, 0, 24, "camera"))


def test_more_starts_than_clips_are_refused(held_out):
    with pytest.raises(ValueError, match=r"clips=25, but the data in .* has 24"):
        starts(held_out, 25, 10, "camera")


def test_sections_cover_a_video_and_none_is_short():
    assert list(sections(360)) == [slice(i, i + 60) for i in range(0, 360, 60)]
    assert list(sections(75)) == [slice(0, 75)]
    assert list(sections(95)) == [slice(0, 60), slice(60, 95)]
    assert list(sections(12)) == [slice(0, 12)]


def test_pictures_are_shown_after_1_10_and_60_seconds_as_far_as_the_video_goes():
    assert shown_seconds(1440) == [1, 10, 60]
    assert shown_seconds(48) == [1, 2]
    assert frame_at(60) == 1440


def test_the_vocabulary_leaves_out_what_says_nothing_and_what_is_everywhere(held_out):
    words = vocabulary(held_out)
    assert "room" not in words.words and "a" not in words.words
    assert set(words.words) <= {"red", "green", "blue", "grey"}


def test_captions_differ_by_the_words_that_only_one_has():
    words = Vocabulary(("dim", "brick", "steel"), (0.5, 0.5, 0.5))
    assert words.marks("a dim room of brick").tolist() == [1, 1, 0]
    assert words.differing("a dim room of brick", "a dim hall of steel") == 2


def test_average_precision_of_a_perfect_and_of_a_reversed_order():
    marks = np.array([1.0, 1, 0, 0])
    assert average_precision(np.array([4.0, 3, 2, 1]), marks) == 1
    assert average_precision(np.array([1.0, 2, 3, 4]), marks) == pytest.approx((1 / 3 + 2 / 4) / 2)
