# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Samples become a pose and a covariance that say the truth (posenet.md sections 8.1 and 13)."""

import numpy as np
from numpy.testing import assert_allclose
import pytest
from scipy.stats import chi2

from geo_perception.geometry import se3
from geo_perception.inference.uncertainty import (
    Calibration, fit_calibration, SMALLEST_VARIANCE, summarise_samples)
from geo_perception.model_file import is_number

POSITION = np.array([3.0, -7.0, 1.2])
ROTATION = se3.matrix_from_rotation_vector([1.0, 2.0, -0.5])


def some_covariance(position=0.1, rotation=0.03):
    """Return a full 6x6 covariance of that size."""
    A = np.random.default_rng(0).normal(size=(6, 6)) / np.sqrt(6)
    A[:3] *= position
    A[3:] *= rotation
    return A @ A.T


def samples(covariance, n, seed=1):
    """Return positions and rotations around a pose, errors about fixed axes."""
    errors = np.random.default_rng(seed).multivariate_normal(np.zeros(6), covariance, n)
    return (POSITION + errors[:, :3],
            se3.matrix_from_rotation_vector(errors[:, 3:]) @ ROTATION)


def test_samples_of_a_known_gaussian_give_it_back():
    """Within sampling error, and symmetric positive definite."""
    truth = some_covariance()
    position, rotation, covariance = summarise_samples(*samples(truth, 20_000))
    assert_allclose(position, POSITION, atol=4 * 0.1 / np.sqrt(20_000))
    assert se3.rotation_angle(rotation, ROTATION) < 4 * 0.04 / np.sqrt(20_000)
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    assert np.abs((covariance - truth) / scale).max() < 0.04
    assert_allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_mean_rotation_is_the_eigenvector_of_the_outer_products():
    """As section 8.1 writes it; the sign of a quaternion does not matter there."""
    positions, rotations = samples(some_covariance(rotation=0.5), 40)
    q = se3.quaternion_from_matrix(rotations)
    q[::2] *= -1
    values, vectors = np.linalg.eigh(q.T @ q)
    _, rotation, _ = summarise_samples(positions, rotations)
    assert se3.rotation_angle(rotation, se3.matrix_from_quaternion(vectors[:, -1])) < 1e-7


def test_covariance_is_the_loop_of_the_specification():
    """Sum of e e^T over T - 1, e about the fixed world axes."""
    positions, rotations = samples(some_covariance(), 7)
    position, rotation, covariance = summarise_samples(positions, rotations)
    expected = np.zeros((6, 6))
    for x, R in zip(positions, rotations):
        e = np.concatenate([x - position, se3.rotation_vector_from_matrix(R @ rotation.T)])
        expected += np.outer(e, e) / 6
    assert_allclose(covariance, expected)


def test_a_change_of_the_world_frame_turns_the_result_along():
    """Position, rotation and covariance."""
    positions, rotations = samples(some_covariance(), 50)
    T = se3.make_transform(se3.matrix_from_rotation_vector([0.3, -1.2, 2.0]), [5.0, 6.0, 7.0])
    position, rotation, covariance = summarise_samples(positions, rotations)
    moved = summarise_samples(se3.transform_points(T, positions), T[:3, :3] @ rotations)
    assert_allclose(moved[0], se3.transform_points(T, position))
    assert_allclose(moved[1], T[:3, :3] @ rotation, atol=1e-12)
    assert_allclose(moved[2], se3.rotate_pose_covariance(covariance, T[:3, :3]), atol=1e-12)


def test_one_sample_has_no_spread():
    """The deterministic pose."""
    position, rotation, covariance = summarise_samples(POSITION[None], ROTATION[None])
    assert_allclose(position, POSITION)
    assert_allclose(rotation, ROTATION, atol=1e-12)
    assert_allclose(covariance, 0.0, atol=1e-20)


def test_samples_all_round_still_give_a_rotation():
    """The mean of opposite rotations is not defined, but it is a rotation."""
    rotations = np.stack([np.diag(d) for d in ([1.0, 1, 1], [1.0, -1, -1], [-1.0, 1, -1],
                                               [-1.0, -1, 1])])
    _, rotation, covariance = summarise_samples(np.zeros((4, 3)), rotations)
    assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0) and np.isfinite(covariance).all()


def test_calibrated_covariance_by_hand():
    """S C S plus the floor; floors add in quadrature, scales are factors on deviations."""
    calibration = Calibration(scale_position=2.0, scale_rotation=3.0, floor_position=0.5,
                              floor_rotation=0.1)
    C = some_covariance()
    result = calibration.covariance(C)
    assert_allclose(result[:3, :3], 4.0 * C[:3, :3] + 0.25 * np.eye(3))
    assert_allclose(result[3:, 3:], 9.0 * C[3:, 3:] + 0.01 * np.eye(3))
    assert_allclose(result[:3, 3:], 6.0 * C[:3, 3:])
    assert_allclose(result, result.T)


def test_covariance_without_spread_or_floor_can_be_inverted():
    """What a filter gets is positive definite."""
    result = Calibration(floor_position=0.0, floor_rotation=0.0).covariance(np.zeros((6, 6)))
    assert_allclose(result, SMALLEST_VARIANCE * np.eye(6))


def validation(n, scale, floor, seed=0):
    """Return errors and sample covariances of frames that follow the model exactly."""
    rng = np.random.default_rng(seed)
    covariances, errors = [], []
    for spread in rng.lognormal(0.0, 0.7, n):
        C = some_covariance(0.05 * spread, 0.02 * spread)
        S, F = np.repeat(scale, 3), np.repeat(floor, 3)
        errors.append(rng.multivariate_normal(np.zeros(6), C * np.outer(S, S) + np.diag(F ** 2)))
        covariances.append(C)
    return np.stack(errors), np.stack(covariances)


def test_calibration_finds_scale_and_floor():
    """The numbers that frames were drawn with, for position and rotation apart."""
    errors, covariances = validation(6000, (3.0, 0.5), (0.1, 0.02))
    fitted = fit_calibration(errors, covariances, np.full(6000, 0.9))
    assert fitted.scale_position == pytest.approx(3.0, rel=0.1)
    assert fitted.floor_position == pytest.approx(0.1, rel=0.1)
    assert fitted.scale_rotation == pytest.approx(0.5, rel=0.2)
    assert fitted.floor_rotation == pytest.approx(0.02, rel=0.1)


def test_calibrated_covariances_cover_as_often_as_they_say():
    """68 % within one sigma ellipsoid, 95 % within two, on frames not used for fitting."""
    fitted = fit_calibration(*validation(2000, (4.0, 2.0), (0.05, 0.01)), np.full(2000, 0.9))
    errors, covariances = validation(4000, (4.0, 2.0), (0.05, 0.01), seed=9)
    for block in (slice(0, 3), slice(3, 6)):
        squares = np.array([
            e[block] @ np.linalg.solve(fitted.covariance(C)[block, block], e[block])
            for e, C in zip(errors, covariances)])
        for share in (0.68, 0.95):
            assert np.mean(squares < chi2.ppf(share, 3)) == pytest.approx(share, abs=0.03)
        assert squares.mean() / 3 == pytest.approx(1.0, abs=0.08)


def unusual(n, power, seed=0, heavy=False):
    """Return errors that grow with a power of the novelty, and of which few may be far off."""
    rng = np.random.default_rng(seed)
    novelties = rng.uniform(0.5, 1.5, n)
    C = np.diag(np.repeat([0.01, 0.001], 3))
    errors = rng.multivariate_normal(np.zeros(6), 4.0 * C, n)
    if heavy:
        errors *= np.sqrt(4.0 / rng.chisquare(4.0, n))[:, None]
    errors *= ((novelties / 0.5) ** power)[:, None]
    return errors, np.tile(C, (n, 1, 1)), np.full(n, 0.9), novelties


@pytest.mark.parametrize('power', [0.0, 2.0])
@pytest.mark.parametrize('heavy', [False, True], ids=['normal', 'heavy tails'])
def test_errors_that_grow_with_novelty_are_covered_wherever_they_are(power, heavy):
    """Among familiar and among novel images alike; the power is the one they were drawn with."""
    fitted = fit_calibration(*unusual(4000, power, heavy=heavy))
    assert fitted.power_position == pytest.approx(power, abs=0.15)
    assert fitted.power_rotation == pytest.approx(power, abs=0.15)
    errors, covariances, _, novelties = unusual(4000, power, seed=9, heavy=heavy)
    for part in (novelties < 0.7, novelties > 1.3):
        for block in (slice(0, 3), slice(3, 6)):
            squares = np.array([
                e[block] @ np.linalg.solve(fitted.covariance(C, novelty)[block, block], e[block])
                for e, C, novelty in zip(errors[part], covariances[part], novelties[part])])
            # Where tails are heavy no Gaussian has both shares right, and both are 3 to 10 % off.
            for share, expected in ((0.68, 0.775 if heavy else 0.68),
                                    (0.95, 0.92 if heavy else 0.95)):
                assert np.mean(squares < chi2.ppf(share, 3)) == pytest.approx(expected, abs=0.045)


def test_a_few_frames_far_off_do_not_decide_for_all():
    """One frame in fifty a hundred times as wrong: the others are not called uncertain."""
    errors, covariances = validation(2000, (3.0, 0.5), (0.1, 0.02))
    plain = fit_calibration(errors, covariances, np.full(2000, 0.9))
    errors[::50] *= 100.0
    fitted = fit_calibration(errors, covariances, np.full(2000, 0.9))
    # Their spread still says who is wrong.
    assert fitted.scale_position == pytest.approx(plain.scale_position, rel=0.3)
    assert fitted.floor_position == pytest.approx(plain.floor_position, rel=0.3)


def test_covariance_of_a_novel_image_by_hand():
    """Deviations grow with a power of the ratio; what is familiar is as usual."""
    calibration = Calibration(usual_novelty=0.5, power_position=2.0, power_rotation=1.0)
    C = some_covariance()
    usual = calibration.covariance(C)
    assert_allclose(calibration.covariance(C, 0.2), usual)
    novel = calibration.covariance(C, 1.5)
    assert_allclose(novel[:3, :3], 81.0 * usual[:3, :3])
    assert_allclose(novel[3:, 3:], 9.0 * usual[3:, 3:])
    assert_allclose(novel[:3, 3:], 27.0 * usual[:3, 3:])
    # Nothing was measured that far away.
    assert_allclose(calibration.covariance(C, 1e9), calibration.covariance(C, 1.5))


def test_calibration_of_an_older_model_knows_no_novelty():
    """Its six numbers give what they gave."""
    old = Calibration(2.0, 3.0, 0.5, 0.1, 10.0, 0.5)
    C = some_covariance()
    assert_allclose(old.covariance(C, 7.0), old.covariance(C))


def test_weights_say_which_frames_count():
    """A frame without weight is as if it were not there."""
    errors, covariances = validation(300, (3.0, 0.5), (0.1, 0.02))
    fitted = fit_calibration(errors[:200], covariances[:200], np.full(9, 0.9))
    errors[200:] = 7.0
    weighted = fit_calibration(errors, covariances, np.full(9, 0.9),
                               weights=np.repeat([1.0, 0.0], [200, 100]))
    for name in ('scale_position', 'floor_position', 'floor_rotation', 'usual_spread'):
        assert getattr(weighted, name) == pytest.approx(getattr(fitted, name), rel=1e-3)


def test_calibration_where_samples_say_nothing():
    """No spread at all, as with dropout off: all of the error becomes the floor."""
    errors = 0.2 * np.random.default_rng(0).normal(size=(500, 6))
    fitted = fit_calibration(errors, np.zeros((500, 6, 6)), np.full(500, 0.9))
    assert fitted.floor_position == pytest.approx(0.2, rel=0.05)
    assert fitted.floor_rotation == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize('seed', [2, 3])
def test_calibration_where_samples_all_but_agree(seed):
    """Rounding alone: whatever is made of it, a model file can hold."""
    random = np.random.default_rng(seed)
    errors = random.normal(0, 0.05, (20, 6))
    covariances = 1e-16 * np.stack([np.diag(random.uniform(0.1, 2, 6)) for _ in range(20)])
    fitted = fit_calibration(errors, covariances, np.full(20, 0.9))
    assert all(is_number(value) for value in vars(fitted).values())


def test_calibration_of_perfect_and_of_few_frames_is_finite():
    """No error at all; a single frame."""
    for errors in (np.zeros((5, 6)), np.full((1, 6), 0.1)):
        fitted = fit_calibration(errors, np.tile(some_covariance(), (len(errors), 1, 1)),
                                 np.full(len(errors), 0.8))
        for name in ('scale_position', 'scale_rotation', 'floor_position', 'floor_rotation',
                     'usual_spread', 'usual_similarity'):
            assert np.isfinite(getattr(fitted, name)) and getattr(fitted, name) > 0, name


def test_usual_frames_are_95_of_100():
    """Of the spreads from above, of the similarities from below."""
    errors, covariances = validation(1000, (1.0, 1.0), (0.05, 0.02))
    similarities = np.random.default_rng(0).uniform(0, 1, 1000)
    fitted = fit_calibration(errors, covariances, similarities)
    spreads = [fitted.spread(fitted.covariance(C)) for C in covariances]
    assert np.mean(np.array(spreads) <= fitted.usual_spread) == pytest.approx(0.95, abs=0.002)
    assert np.mean(similarities >= fitted.usual_similarity) == pytest.approx(0.95, abs=0.002)


def test_spread_is_the_worse_of_position_and_rotation():
    """Each in units of its floor."""
    calibration = Calibration(floor_position=0.1, floor_rotation=0.02)
    assert calibration.spread(np.diag([0.04, 0.0, 0.0, 0, 0, 0])) == pytest.approx(2.0)
    assert calibration.spread(np.diag([0.04, 0, 0, 0.0036, 0, 0])) == pytest.approx(3.0)


@pytest.mark.parametrize('spread, similarity, expected', [
    (5.0, 0.9, (1.0, 1.0)), (10.0, 0.5, (1.0, 1.0)), (20.0, 0.25, (0.5, 0.5)),
    (40.0, -0.3, (0.25, 0.0)), (0.0, 1.0, (1.0, 1.0))])
def test_scores(spread, similarity, expected):
    """One for the usual, a half at twice as unsure or half as alike, never below zero."""
    calibration = Calibration(usual_spread=10.0, usual_similarity=0.5)
    assert calibration.scores(spread, similarity) == pytest.approx(expected)


def test_scores_where_nothing_was_alike():
    """A validation pass elsewhere: similarities of zero and below."""
    assert Calibration(usual_similarity=-0.2).scores(1.0, 0.1)[1] == 1.0
    assert Calibration(usual_similarity=-0.2).scores(1.0, -0.5)[1] == 0.0
