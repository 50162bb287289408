# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow turned round: where each pixel of the later image was."""

import numpy as np

from geo_perception.datasets.sample_world.render import flow_to, render_view
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.flow_inverse import inverse_flow


def test_a_surface_that_shifts():
    """Known exactly, to fractions of a pixel, and unknown where it came into view."""
    flow = np.zeros((6, 10, 2), np.float32)
    flow[..., 0], flow[..., 1] = 2.25, -1
    back = inverse_flow(flow)
    np.testing.assert_allclose(back[:5, 3:], -flow[:5, 3:], atol=1e-6)
    assert np.isnan(back[5]).all() and np.isnan(back[:, :2]).all()


def test_the_nearer_surface_is_seen():
    """A thing moves over a wall; where both lie without depth nobody knows."""
    flow, depth = np.zeros((8, 20, 2), np.float32), np.full((8, 20), 5, np.float32)
    flow[2:6, 4:8, 0], depth[2:6, 4:8] = 6, 2
    back = inverse_flow(flow, depth)
    assert (back[2:6, 10:14] == [-6, 0]).all()
    assert np.isnan(back[2:6, 4:8]).all()     # was hidden
    wall = np.ones((8, 20), bool)
    wall[2:6, 10:14] = wall[2:6, 4:8] = False
    assert (back[wall] == 0).all()
    back = inverse_flow(flow)
    assert np.isnan(back[2:6, 10:14]).all() and (back[wall] == 0).all()


def test_unknown_flow_leads_nowhere():
    """No NaN is taken for a place, and nothing at all for nothing."""
    flow = np.full((5, 7, 2), np.nan, np.float32)
    assert np.isnan(inverse_flow(flow)).all()
    flow[2, 3] = 100
    assert np.isnan(inverse_flow(flow)).all()
    flow[2, 3] = 1, 1
    back = inverse_flow(flow)
    assert (back[3, 4] == -1).all() and np.isfinite(back).sum() == 2


def test_it_is_that_of_the_renderer():
    """In a scene with moving things, seen by a camera that moves."""
    camera = Camera(np.array([[66.0, 0, 47.9], [0, 66.0, 31.6], [0, 0, 1]]), 96, 64)
    drive = SampleWorld(0, camera, changing_light=False).drive('train', 60)
    bodies = {i: drive.body_poses(i) for i in (30, 31)}
    view = render_view(SampleWorld(0, camera).scene, camera, drive.poses[31], bodies[31],
                       drive.light(31))
    truth = flow_to(view, camera, drive.poses[31], bodies[31], drive.poses[30], bodies[30])
    frame = drive[30]
    assert np.abs(frame.flow[frame.motion_mask > 0]).max() > 3
    back = inverse_flow(frame.flow, frame.depth)
    known = np.isfinite(back).all(-1)
    error = np.linalg.norm((back - truth)[known], axis=-1)
    assert known.mean() > 0.8 and np.median(error) < 0.01 and error.mean() < 0.1
    moving = known & (drive[31].motion_mask > 0)
    assert moving.sum() > 50 and np.linalg.norm((back - truth)[moving], axis=-1).mean() < 0.3
