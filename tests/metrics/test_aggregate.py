"""Summaries of single scores, and of the frames of tracks."""

import numpy as np
import pytest

from qsep_jax.metrics.aggregate import Summary, TrackSummary, summarize, summarize_tracks, track_medians

NAN, INF = np.nan, np.inf


def test_mean_median_and_interval():
    summary = summarize(np.array([1.0, 2.0, 3.0, 10.0]))
    half = 1.96 * np.sqrt((9 + 4 + 1 + 36) / 3) / 2
    assert (summary.mean, summary.median, summary.count) == (4.0, 2.5, 4)
    assert summary.ci95 == pytest.approx(half)


def test_scores_that_are_not_finite_are_left_out():
    assert summarize(np.array([np.nan, 1.0, np.inf, 3.0, -np.inf])) == summarize(np.array([1.0, 3.0]))


def test_one_score_has_no_spread():
    assert summarize(np.array([2.0])) == Summary(2.0, 2.0, 0.0, 1)


@pytest.mark.parametrize("scores", [[], [np.nan, np.inf]])
def test_no_finite_score_is_refused(scores):
    with pytest.raises(ValueError, match="no finite score"):
        summarize(np.array(scores))


def test_median_of_medians_is_neither_the_median_nor_the_mean_of_all_frames():
    frames = [np.array([0.0, 1.0, 100.0]), np.array([NAN, 5.0]), np.array([7.0, NAN, 9.0, 2.0, 90.0, 8.0])]
    np.testing.assert_array_equal(track_medians(frames), [1.0, 5.0, 8.0])
    summary = summarize_tracks(frames)
    assert summary == TrackSummary(
        mean=14 / 3, median=5.0, ci95=summarize(np.array([1.0, 5.0, 8.0])).ci95, count=3, infinite=0, unscored=0
    )


def test_tracks_without_a_score_are_left_out_and_counted():
    silent = [np.array([NAN, NAN]), np.array([])]
    frames = [np.array([1.0, 2.0, 6.0]), silent[0], np.array([4.0]), silent[1]]
    np.testing.assert_array_equal(track_medians(frames), [2.0, NAN, 4.0, NAN])
    summary = summarize_tracks(frames)
    assert (summary.mean, summary.median, summary.count, summary.unscored) == (3.0, 3.0, 2, 2)


@pytest.mark.parametrize(
    ("frames", "median"),
    [
        ([1.0, 2.0, INF], 2.0),
        ([1.0, INF, INF], INF),
        ([1.0, INF], INF),
        ([INF, NAN], INF),
        ([INF, INF], INF),
        ([-INF, 1.0, 2.0], 1.0),
    ],
)
def test_an_infinite_frame_is_a_value(frames, median):
    assert track_medians([np.array(frames)]) == [median]


def test_an_infinite_track_counts_in_the_median_and_not_in_the_mean():
    summary = summarize_tracks([np.array([1.0]), np.array([INF]), np.array([3.0])])
    assert (summary.median, summary.mean, summary.count, summary.infinite) == (3.0, 2.0, 3, 1)
    assert summary.ci95 == summarize(np.array([1.0, 3.0])).ci95


def test_only_perfect_tracks():
    summary = summarize_tracks([np.array([INF, INF]), np.array([INF])])
    assert (summary.median, summary.count, summary.infinite, summary.unscored) == (INF, 2, 2, 0)
    assert np.isnan([summary.mean, summary.ci95]).all()


@pytest.mark.parametrize("frames", [[], [np.array([NAN]), np.array([])]])
def test_tracks_without_any_score_are_refused(frames):
    with pytest.raises(ValueError, match=f"none of the {len(frames)} tracks has a frame with a score"):
        summarize_tracks(frames)
