# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The shipped models say on a GPU what they say on a CPU, and networks learn there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.geometry.se3 import rotation_angle
from geo_perception.inference.engine import Engine
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.inference.verified import load_relocalizer
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')

MODELS = Path(__file__).parents[1] / 'models'
FRAMES = 6


@pytest.fixture(scope='module')
def drive():
    """Return the beginning of the test pass, as the models' cards render it."""
    pictures = SampleWorld().drive('test', 250)
    return [pictures[i] for i in range(FRAMES)]


def both(load, name, **options):
    """Return the pipeline of a shipped model on the CPU and on the GPU."""
    pipelines = [load(MODELS / name, device=device, **options) for device in ('cpu', 'cuda')]
    assert 'CUDA' not in pipelines[0].describe() and 'CUDA' in pipelines[1].describe()
    return pipelines


@pytest.mark.parametrize('precision, limit', [('fp32', 0.002), ('auto', 0.02)])
def test_depth_from_stereo_training(drive, precision, limit):
    """Of every frame, by the median pixel."""
    cpu, gpu = both(StereoDepthPipeline.load, 'sample_world_stereo.safetensors',
                    precision=precision)
    for frame in drive:
        expected, depth = (pipeline(frame.image, frame.camera).depth for pipeline in (cpu, gpu))
        assert np.nanmedian(np.abs(depth / expected - 1)) < limit


def test_depth_odometry_and_flow(drive):
    """Over a few frames, with what each keeps of the earlier ones."""
    cpu, gpu = both(GeometryPipeline.load, 'sample_world_geometry.safetensors')
    for frame in drive:
        expected, result = (pipeline(frame.image, frame.camera, frame.stamp, flow=True)
                            for pipeline in (cpu, gpu))
        assert np.nanmedian(np.abs(result.depth.depth / expected.depth.depth - 1)) < 0.02
    poses = expected.odometry.T_odom_camera, result.odometry.T_odom_camera
    assert np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3]) < 0.01
    assert rotation_angle(poses[0][:3, :3], poses[1][:3, :3]) < np.radians(0.2)
    difference = result.flow.backward.flow - expected.flow.backward.flow
    assert np.median(np.linalg.norm(difference, axis=-1)) < 0.05


@pytest.mark.parametrize('name', ['sample_world.safetensors', 'sample_world.place'])
def test_poses(drive, name):
    """Of the network and of the place file."""
    cpu, gpu = both(load_relocalizer, name)
    for frame in drive:
        expected, pose = (pipeline(frame.image, frame.camera).T_world_camera
                          for pipeline in (cpu, gpu))
        assert np.linalg.norm(pose[:3, 3] - expected[:3, 3]) < 0.02
        assert rotation_angle(pose[:3, :3], expected[:3, :3]) < np.radians(0.5)


def test_engines_of_two_threads_do_not_mix():
    """Each made in its thread while the other runs, as by two nodes of one process."""
    images = [np.full((1, 64, 64, 3), value, np.uint8) for value in (50, 200)]

    class Mean(torch.nn.Module):
        """Of an image."""

        def forward(self, image):
            """Return it by channel."""
            return image.float().mean((1, 2))

    def work(image):
        engine = Engine(Mean(), image, 'cuda', 'fp32')
        return [float(engine(image)[0, 0]) for _ in range(300)]

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(work, images))
    assert [set(values) for values in answers] == [{50.0}, {200.0}]


@pytest.mark.parametrize('network, inputs', [
    (lambda: EgoMotionNet(sources=2, batch_norm=True), ((2, 3, 64, 96), (2, 2, 3, 64, 96))),
    (lambda: build_depth_network('dispnet_resnet50', {}), ((2, 3, 64, 96),)),
    (lambda: build_flow_network('resflownet', {'zero_heads': False}), ((2, 12, 64, 96),))])
def test_published_networks_can_learn(network, inputs):
    """Every weight has a gradient."""
    network = network().cuda().train()
    images = [torch.rand(shape, device='cuda') for shape in inputs]
    outputs = network(*images)
    sum(x.sum() for part in outputs if part is not None
        for x in (part if isinstance(part, (list, tuple)) else [part])).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all()
               for weight in network.parameters())
