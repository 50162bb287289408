# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The five-point baseline finds known motion in drawn images."""

import cv2
import numpy as np
import pytest

from geo_perception.evaluation.classical_odometry import chain, FivePointOdometry, follow_corners
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera

CAMERA = Camera(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), 320, 240)


def cloud():
    """Return points in the world, and how bright each is."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-8, -6, 2], [8, 6, 14], (900, 3))
    return points, rng.integers(60, 255, 900)


def view(T_world_camera, camera=CAMERA):
    """Return the image of the cloud: a small disc at each point, the nearest in front."""
    points, shades = cloud()
    seen = se3.transform_points(se3.inverse_transform(T_world_camera), points)
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    # Far outside the image the distortion folds back.
    ahead = (seen[:, 2] > 0.3) & (np.abs(seen[:, :2]) < 0.7 * seen[:, 2:]).all(1)
    order = [i for i in np.argsort(-seen[:, 2]) if ahead[i]]
    if camera.distortion.any():
        pixels, _ = cv2.projectPoints(seen[order], np.zeros(3), np.zeros(3), camera.K,
                                      camera.distortion)
        pixels = pixels[:, 0]
    else:
        pixels = camera.project(seen[order])
    for i, (u, v) in zip(order, pixels):
        # Sixteenths of a pixel, so that motion is smooth.
        centre = round(16 * u), round(16 * v)
        cv2.circle(image, centre, 40, (int(shades[i]),) * 3, -1, cv2.LINE_AA, 4)
    return image


def poses(n, step=(0.2, 0.0, 0.3), turn=(0.0, 0.02, 0.005)):
    """Return poses of constant motion."""
    motion = se3.make_transform(se3.matrix_from_rotation_vector(turn), step)
    T = [np.eye(4)]
    for _ in range(n - 1):
        T.append(T[-1] @ motion)
    return np.stack(T)


@pytest.mark.parametrize('distortion', [[], [-0.25, 0.08, 0.001, 0.0, 0.0]],
                         ids=['straight', 'distorted'])
def test_known_motion_is_found(distortion):
    """Direction within a degree, turn within a tenth of a degree of every step."""
    camera = Camera(CAMERA.K, 320, 240, np.array(distortion))
    odometry, truth = FivePointOdometry(), poses(5)
    for i, T in enumerate(truth):
        reference, motion = odometry(view(T, camera), camera)
        if i == 0:
            assert reference == 0 and np.array_equal(motion, np.eye(4))
            continue
        true = se3.inverse_transform(truth[reference]) @ T
        assert np.linalg.norm(motion[:3, 3]) == pytest.approx(1.0)
        cosine = motion[:3, 3] @ true[:3, 3] / np.linalg.norm(true[:3, 3])
        assert np.degrees(np.arccos(min(cosine, 1.0))) < 1.0
        assert np.degrees(se3.rotation_angle(motion[:3, :3], true[:3, :3])) < 0.1


def test_slow_motion_is_measured_over_several_images():
    """The reference stays until there is something to see, and the way adds up."""
    odometry, truth = FivePointOdometry(), poses(12, (0.03, 0, 0.03), (0, 0.001, 0))
    references, motions = zip(*(odometry(view(T), CAMERA) for T in truth))
    assert any(references[i] == references[i + 1] for i in range(1, 11))
    end = chain(references, motions, truth)[-1]
    assert np.linalg.norm(end[:3, 3] - truth[-1, :3, 3]) < 0.1 * np.linalg.norm(truth[-1, :3, 3])


def test_standing_has_no_motion():
    """The same image again and again."""
    odometry, image = FivePointOdometry(), view(np.eye(4))
    motions = [odometry(image, CAMERA)[1] for _ in range(3)]
    assert np.array_equal(motions, np.tile(np.eye(4), (3, 1, 1)))


def test_blank_images_are_survived():
    """Nothing to follow: it stays, and goes on with the next picture."""
    odometry, truth = FivePointOdometry(), poses(5)
    images = [view(T) for T in truth]
    images[2][:] = 0
    assert len(follow_corners(images[2][..., 0], images[3][..., 0])[0]) == 0
    answers = [odometry(image, CAMERA) for image in images]
    assert [np.linalg.norm(motion[:3, 3]) for _, motion in answers] \
        == pytest.approx([0, 1, 0, 0, 1])
    assert [reference for reference, _ in answers] == [0, 0, 1, 2, 3]
