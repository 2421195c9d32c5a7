"""Transcription scores: piano rolls and notes by hand; average precision against its definition and scikit-learn."""

import numpy as np
import pytest

from qsep_jax.metrics.transcription import Detection, frame_average_precision, frame_scores, note_scores

TRUTH = np.array([[1, 0, 1], [0, 1, 0]])
C4, E4 = 60.0, 64.0
NO_NOTES = np.zeros((0, 3))


def as_tuple(scores: Detection) -> tuple[float, float, float]:
    return scores.precision, scores.recall, scores.f1


def test_frames_by_hand():
    estimate = np.array([[0.9, 0.6, 0.4], [0.5, 0.5, 0.1]])
    # At 0.5 four cells are detected, two correctly, and one of three is missed; above it, one of two is correct.
    assert as_tuple(frame_scores(TRUTH, estimate)) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert as_tuple(frame_scores(TRUTH, estimate, threshold=0.51)) == pytest.approx((1 / 2, 1 / 3, 2 / 5))
    assert as_tuple(frame_scores(TRUTH, TRUTH)) == (1, 1, 1)


def test_empty_rolls():
    empty = np.zeros_like(TRUTH)
    assert np.isnan(as_tuple(frame_scores(empty, empty))).all()
    assert as_tuple(frame_scores(TRUTH, empty)) == (0, 0, 0)
    assert as_tuple(frame_scores(empty, TRUTH)) == (0, 0, 0)
    assert np.isnan(frame_average_precision(empty, TRUTH))


def test_average_precision_by_hand():
    # In falling order: correct, wrong, correct, then a correct and a wrong one that are equal, then a wrong one.
    estimate = np.array([[0.9, 0.8, 0.7], [0.4, 0.4, 0.1]])
    expected = 1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5
    assert frame_average_precision(TRUTH, estimate) == pytest.approx(expected)
    assert frame_average_precision(TRUTH, TRUTH) == 1
    assert frame_average_precision(TRUTH, np.full((2, 3), 0.3)) == pytest.approx(0.5)


def by_thresholds(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Compute average precision with a pass over the roll for each threshold."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(estimate.ravel()), reverse=True):
        scores = frame_scores(truth, estimate, threshold)
        area += (scores.recall - before) * scores.precision
        before = scores.recall
    return area


def rolls(ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random((40, 12)) < 0.2
    estimate = 0.3 * truth + 0.7 * rng.random(truth.shape)
    return truth, np.round(estimate, 1) if ties else estimate


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_its_definition(ties):
    truth, estimate = rolls(ties)
    assert frame_average_precision(truth, estimate) == pytest.approx(by_thresholds(truth, estimate), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_agrees_with_scikit_learn(ties):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    truth, estimate = rolls(ties)
    expected = metrics.average_precision_score(truth, estimate, average="micro")
    assert frame_average_precision(truth, estimate) == pytest.approx(expected, abs=1e-12)


def test_average_precision_depends_on_the_order_alone():
    truth, estimate = rolls(False)
    assert frame_average_precision(truth, estimate**3 / 7) == frame_average_precision(truth, estimate)


def test_average_precision_of_one_hot_rolls_follows_from_accuracy():
    classes = 5
    truth, estimate = np.random.default_rng(0).integers(0, classes, (2, 200))
    estimate[::2] = truth[::2]
    accuracy = (truth == estimate).mean()
    score = frame_average_precision(np.eye(classes)[truth], np.eye(classes)[estimate])
    assert score == pytest.approx(accuracy**2 + (1 - accuracy) / classes)


@pytest.mark.parametrize("score", [frame_scores, frame_average_precision])
@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (TRUTH, TRUTH[:1], r"reference \(2, 3\) and estimate \(1, 3\) must both be \[N, K\]"),
        (TRUTH[0], TRUTH[0], r"must both be \[N, K\]"),
        (0.5 * TRUTH, TRUTH, "must be 0 or 1, not 0.5"),
        (TRUTH, np.full((2, 3), np.nan), "the estimated roll holds NaN"),
    ],
)
def test_unusable_rolls_are_refused(score, reference, estimate, message):
    with pytest.raises(ValueError, match=message):
        score(reference, estimate)


@pytest.mark.parametrize(
    ("note", "onset_only", "with_offset"),
    [
        ((1.0, 3.0, C4), 1, 1),
        ((1.05, 3.0, C4), 1, 1),
        ((0.95, 3.0, C4), 1, 1),
        ((1.06, 3.0, C4), 0, 0),
        ((1.0, 3.0, C4 + 0.49), 1, 1),
        ((1.0, 3.0, C4 - 0.51), 0, 0),
        ((1.0, 3.0, C4 + 12), 0, 0),
        ((1.0, 3.39, C4), 1, 1),  # 20 % of 2 s
        ((1.0, 3.41, C4), 1, 0),
        ((1.0, 2.59, C4), 1, 0),
    ],
)
def test_tolerances_of_a_correct_note(note, onset_only, with_offset):
    reference, estimate = np.array([[1.0, 3.0, C4]]), np.array([note])
    assert as_tuple(note_scores(reference, estimate, offsets=False)) == (onset_only,) * 3
    assert as_tuple(note_scores(reference, estimate)) == (with_offset,) * 3


@pytest.mark.parametrize(("offset", "right"), [(1.149, 1), (1.151, 0)])
def test_the_end_of_a_short_note_may_be_50_ms_off(offset, right):
    assert note_scores(np.array([[1.0, 1.1, C4]]), np.array([[1.0, offset, C4]])).f1 == right


def test_notes_by_hand():
    reference = np.array([[0.0, 1.0, C4], [1.0, 2.0, C4], [2.0, 3.0, E4]])
    # The first note twice, one of them correct; the second too long; the third missing; two extra notes.
    estimate = np.array([[0.0, 1.0, C4], [0.02, 1.0, C4], [1.0, 2.9, C4], [5.0, 6.0, C4], [6.0, 7.0, E4]])
    assert as_tuple(note_scores(reference, estimate)) == pytest.approx((1 / 5, 1 / 3, 1 / 4))
    assert as_tuple(note_scores(reference, estimate, offsets=False)) == pytest.approx((2 / 5, 2 / 3, 1 / 2))


def test_matching_is_maximal():
    """The estimate at 40 ms fits both reference notes; matched with the first, it would leave the second unmatched."""
    reference = np.array([[0.0, 1.0, C4], [0.08, 1.08, C4]])
    estimate = np.array([[0.04, 1.04, C4], [0.0, 1.0, C4]])
    for order in ([0, 1], [1, 0]):
        assert as_tuple(note_scores(reference[order], estimate)) == (1, 1, 1)


def test_order_does_not_matter():
    rng = np.random.default_rng(0)
    onsets = 1 + 10 * rng.random(30)
    notes = np.stack([onsets, onsets + 0.5 + rng.random(30), rng.integers(40, 80, 30)], axis=1)
    estimate = notes + np.stack([rng.normal(0, 0.04, 30), rng.normal(0, 0.1, 30), rng.normal(0, 0.3, 30)], axis=1)
    expected = note_scores(notes, estimate)
    assert 0.1 < expected.f1 < 0.9
    assert note_scores(rng.permutation(notes), rng.permutation(estimate)) == expected


@pytest.mark.parametrize("offsets", [False, True])
def test_notes_agree_with_mir_eval(offsets):
    from mir_eval.transcription import precision_recall_f1_overlap

    rng = np.random.default_rng(0)
    onsets, pitches = 2 * rng.random((2, 60, 1)), rng.integers(60, 63, (2, 60, 1))
    notes = np.concatenate([onsets, onsets + 0.1 + 0.5 * rng.random((2, 60, 1)), pitches], axis=2)
    columns = [column for part in notes for column in (part[:, :2], 440 * 2 ** ((part[:, 2] - 69) / 12))]
    expected = precision_recall_f1_overlap(*columns, offset_ratio=0.2 if offsets else None)[:3]
    assert 0.05 < expected[0] < 0.95
    assert as_tuple(note_scores(*notes, offsets=offsets)) == pytest.approx(expected)


@pytest.mark.parametrize("empty", [NO_NOTES, np.array([]), []])
@pytest.mark.parametrize("offsets", [False, True])
def test_no_notes(empty, offsets):
    notes = np.array([[1.0, 3.0, C4]])
    assert as_tuple(note_scores(notes, empty, offsets)) == (0, 0, 0)
    assert as_tuple(note_scores(empty, notes, offsets)) == (0, 0, 0)
    assert np.isnan(as_tuple(note_scores(empty, empty, offsets))).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[1.0, 2.0]], r"be \[n, 3\]: onset s, offset s, MIDI pitch, not \(1, 2\)"),
        ([1.0, 2.0, C4], r"be \[n, 3\]"),
        ([[0.0, 1.0, C4], [1.0, 1.0, C4]], r"0 ≤ onset < offset and a pitch, not \[1.0, 1.0, 60.0\]"),
        ([[-0.1, 1.0, C4]], r"0 ≤ onset < offset and a pitch, not \[-0.1, 1.0, 60.0\]"),
        ([[0.0, 1.0, np.nan]], "0 ≤ onset < offset and a pitch"),
    ],
)
def test_unusable_notes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"reference notes must .*{message}"):
        note_scores(np.array(wrong), NO_NOTES)
    with pytest.raises(ValueError, match=f"estimate notes must .*{message}"):
        note_scores(NO_NOTES, np.array(wrong))
