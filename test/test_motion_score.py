# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The score of independent motion: what went in comes out, and false alarms are as promised."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geo_perception.errors import ModelFileError
from geo_perception.inference.motion_score import (
    FALSE_ALARMS, fit_motion_score, MotionScore, refuted, SMALLEST_THRESHOLD, solid)


def pixels(n=40000, noise=0.5, depth_error=0.15, moving=0.0, seed=0):
    """Return what rigid flow lacks, and parallax, pixels, of which some move by themselves."""
    random = np.random.default_rng(seed)
    far, heading = random.gamma(1.5, 3.0, n), random.uniform(0, 2 * np.pi, n)
    along = np.stack([np.cos(heading), np.sin(heading)], 1)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    lack = (random.normal(0, 1, (n, 1)) * np.hypot(noise, depth_error * far)[:, None] * along
            + random.normal(0, 1, (n, 1)) * noise * across)
    moves = random.random(n) < moving
    lack[moves] += 8 * across[moves]
    return lack, far[:, None] * along, moves


def test_what_went_in_comes_out():
    """Noise and depth error to a few percent, false alarms to a few thousandths."""
    lack, parallax, moves = pixels(moving=0.1)
    score = fit_motion_score(lack, parallax, 128, moves, false_alarms=0.02)
    assert score.noise * 128 == pytest.approx(0.5, rel=0.1)
    assert score.depth_error == pytest.approx(0.15, rel=0.1)
    lack, parallax, _ = pixels(seed=1)
    flow, far = lack.reshape(200, 200, 2), parallax.reshape(200, 200, 2)
    # The image is wider here: noise is a part of the width.
    found = score(flow * 200 / 128, 0 * flow, far * 200 / 128)
    assert np.mean(found > score.threshold) == pytest.approx(0.02, abs=0.005)


def test_wrong_depth_excuses_no_motion_across_the_parallax():
    """The same vector counts fully across it, and hardly along it; either way without parallax."""
    score = MotionScore(noise=0.01, depth_error=0.5)
    flow, parallax = np.zeros((1, 100, 2)), np.zeros((1, 100, 2))
    flow[..., 0], parallax[0, 0], parallax[0, 1] = 3, [6, 0], [0, -6]
    along, across, alone = score(flow, 0 * flow, parallax)[0, :3]
    assert along == pytest.approx(3 / np.hypot(1, 3)) and across == alone == pytest.approx(3)


def test_without_labels_few_moving_pixels_change_little():
    """Medians; the threshold is that of a normal distribution."""
    lack, parallax, _ = pixels(moving=0.1)
    score = fit_motion_score(lack, parallax, 128)
    assert score.noise * 128 == pytest.approx(0.5, rel=0.25)
    assert score.depth_error == pytest.approx(0.15, rel=0.25)
    assert score.threshold == pytest.approx(np.sqrt(-2 * np.log(FALSE_ALARMS)))


def test_pixels_of_which_nobody_knows_are_left_out():
    """Where it is known of some what moves, they alone count; known of none is without labels."""
    lack, parallax, moves = pixels(moving=0.1)
    moves = np.where(np.arange(len(moves)) % 2, moves, np.nan)
    known = np.isfinite(moves)
    assert fit_motion_score(lack, parallax, 128, moves) == fit_motion_score(
        lack[known], parallax[known], 128, moves[known] > 0)
    assert fit_motion_score(lack, parallax, 128, np.full(len(moves), np.nan)) == fit_motion_score(
        lack, parallax, 128)


@pytest.mark.parametrize('noise, depth_error', [(0.5, 0.0), (0.0, 0.2)])
def test_one_of_both_may_be_nothing(noise, depth_error):
    """Never negative, never NaN."""
    lack, parallax, _ = pixels(noise=noise, depth_error=depth_error)
    score = fit_motion_score(lack, parallax, 100)
    assert score.noise * 100 == pytest.approx(max(noise, 0.01), abs=0.03)
    assert score.depth_error == pytest.approx(depth_error, abs=0.03)


def test_rigid_flow_is_refuted_by_images():
    """Where another flow explains them; not on a bare wall, where every flow does."""
    torch.manual_seed(0)
    image = 2 * torch.rand(1, 3, 40, 60) - 1
    image[..., 30:] = 0.1
    other = torch.roll(image, 3, 3)
    flow = torch.zeros(1, 2, 40, 60)
    flow[:, 0] = 3
    found = refuted(image, other, flow, torch.zeros_like(flow))[0, 0]
    assert found[:, 6:24].all() and not found[:, 36:].any()
    assert not refuted(image, other, torch.zeros_like(flow), flow)[:, :, :, 6:].any()
    lack, parallax, moves = pixels()
    quiet = fit_motion_score(lack, parallax, 128, moves, heard=np.zeros(len(lack), bool))
    assert quiet.threshold == SMALLEST_THRESHOLD


def test_too_few_pixels_say_nothing():
    """Nor do pixels that all move."""
    lack, parallax, moves = pixels(100)
    assert fit_motion_score(lack, parallax, 100) is None
    lack, parallax, moves = pixels(1000, moving=1.0)
    assert fit_motion_score(lack, parallax, 100, moves) is None


def test_model_file():
    """There and back; damaged entries are refused."""
    score = MotionScore(0.003, 0.2, 5.5, 0.02)
    model = SimpleNamespace(path='m', metadata=SimpleNamespace(
        calibration={'metres_per_unit': 2.0, **score.entries()}))
    assert MotionScore.from_model(model) == score
    model.metadata.calibration['moving_noise'] = 'much'
    with pytest.raises(ModelFileError, match="moving_noise is 'much'"):
        MotionScore.from_model(model)
    assert MotionScore.from_model(SimpleNamespace(metadata=SimpleNamespace(
        calibration={}))) == MotionScore()


def test_masks_are_solid():
    """Specks go, gaps are filled, what is large stays where it is; also at other sizes."""
    for scale in (1, 2):
        mask = np.zeros((60 * scale, 128 * scale), bool)
        mask[10 * scale:40 * scale, 20 * scale:60 * scale] = True
        wanted = mask.copy()
        mask[20 * scale:28 * scale, 30 * scale:38 * scale] = False
        mask[50 * scale:53 * scale, 100 * scale:103 * scale] = True
        found = solid(mask)
        # All but the corners, which are rounded off.
        corners = np.zeros_like(mask)
        for y in (10, 37):
            for x in (20, 57):
                corners[y * scale:(y + 3) * scale, x * scale:(x + 3) * scale] = True
        assert np.array_equal(found | corners, wanted | corners)
    assert not solid(np.zeros((8, 8), bool)).any()
