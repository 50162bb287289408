# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Model files with random weights, as fast as trained ones, and what the camera shows them.

Published networks for depth and ego-motion, too, which training_step.py trains.
"""

from functools import partial
from itertools import count

import cv2
import numpy as np
import torch

from geo_perception.geometry.camera import Camera
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.model_file import (
    load_model_file, Metadata, save_model_file, TrainingCamera)
from geo_perception.networks.depth import build_depth_network
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network
from geo_perception.networks.relocalization import build_regressor
from geo_perception.networks.stereo import build_stereo_network
from geo_perception.preprocessing import Preprocessing

# As published, at 416x128: depth network, its arguments and those of the ego-motion network.
VIDEO_NETWORKS = {
    'sfmlearner': ('dispnet_vgg', {}, {}),
    'geonet': ('dispnet_resnet50', {}, {'batch_norm': True}),
    # With its second stage.
    'geonet_flow': ('dispnet_resnet50', {}, {'batch_norm': True}),
    'geonet_vgg': ('dispnet_vgg', {'form': 'geonet'}, {'batch_norm': True})}
# As many thumbnails as a model file keeps at most.
_RETRIEVAL_FRAMES = 2000
_FRAME_NS = 100_000_000
# The camera goes that far to the left and back, pixels an image.
_SHIFT, _SHIFTS = 6, 8


def write_untrained_model(path, architecture, crop=None):
    """
    Write a model file with random weights.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination.
    architecture : str
        ``posenet`` (224x224), ``posenet_lite`` or one of `VIDEO_NETWORKS`.
    crop : tuple of int, optional
        Input size (height, width) of ``posenet_lite``, 224x288 by default, and of
        `VIDEO_NETWORKS`, 128x416 by default.

    """
    if architecture in VIDEO_NETWORKS:
        _write_untrained_geometry(path, architecture, crop or (128, 416))
        return
    if architecture == 'posenet':
        rotation, preprocessing = 'quaternion', Preprocessing()
        arguments = {'rotation_width': 4}
    else:
        crop = crop or (224, 288)
        rotation = 'matrix'
        preprocessing = Preprocessing(short_side=crop[0], crop=crop, std=(128.0,) * 3)
        arguments = {'rotation_width': 6, 'input_size': list(crop)}
    torch.manual_seed(0)
    network = build_regressor(architecture, arguments)
    mean_rotation = torch.tensor([1.0, 0, 0, 0, 1, 0][:arguments['rotation_width']])
    network.fit_to_scene(torch.zeros(3), torch.ones(3), mean_rotation, None)
    tensors = {f'network.{name}': value.numpy() for name, value in network.state_dict().items()}
    random = np.random.default_rng(0)
    thumbnails = random.standard_normal((_RETRIEVAL_FRAMES, 24, 32))
    thumbnails /= np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True)
    tensors['retrieval.thumbnails'] = thumbnails.astype(np.float16)
    tensors['retrieval.poses'] = np.tile(np.eye(4), (_RETRIEVAL_FRAMES, 1, 1))
    save_model_file(path, Metadata('relocalization', architecture, arguments, preprocessing,
                                   rotation, 'map'), tensors)


def write_untrained_stereo(path, architecture):
    """
    Write a model file for depth from stereo pairs with random weights, at 512x256.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination.
    architecture : str
        ``monodepth_vgg`` or ``monodepth_resnet50``.

    """
    torch.manual_seed(0)
    network = build_stereo_network(architecture, {})
    save_model_file(path, Metadata(
        'stereo_depth', architecture, {'network': {}},
        Preprocessing(256, (256, 512), mean=(0.0,) * 3, std=(255.0,) * 3, stretch=True), '', '',
        training_camera=TrainingCamera(640, 480, 400.0, 400.0, 320.0, 240.0),
        calibration={'reach': 0.1}), {f'network.{name}': value.numpy()
                                      for name, value in network.state_dict().items()})


def camera_image():
    """
    Return an image as a camera gives it.

    Returns
    -------
    np.ndarray
        (480, 640, 3) uint8 RGB.

    """
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def camera_video():
    """
    Return images of a camera that moves to and fro before a wall.

    Returns
    -------
    list of np.ndarray
        (480, 640, 3) uint8 RGB, to be shown over and over.

    """
    noise = np.random.default_rng(0).normal(size=(480, 640 + _SHIFT * _SHIFTS, 3))
    wall = sum(scale * cv2.GaussianBlur(noise, (0, 0), scale) for scale in (2, 8, 32))
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    there = [np.ascontiguousarray(wall[:, i * _SHIFT:i * _SHIFT + 640]) for i in range(_SHIFTS)]
    return there + there[-2:0:-1]


def video_camera():
    """
    Return the intrinsics of `camera_video`.

    Returns
    -------
    Camera

    """
    return Camera(np.array([[400.0, 0, 320], [0, 400, 240], [0, 0, 1]]), 640, 480,
                  frame_id='camera_optical_frame')


def pipeline_on_camera(path, flow=False, **options):
    """
    Return the pipeline of a model file with a camera before it.

    Parameters
    ----------
    path : str or pathlib.Path
        Model file.
    flow : bool
        Whether somebody looks at flow and what moves, as of the node.
    **options
        Of the pipeline.

    Returns
    -------
    pipeline : Relocalizer or GeometryPipeline
        Of the model's job.
    function : callable
        Without arguments: processes the next image.

    """
    if load_model_file(path).metadata.job == 'relocalization':
        relocalizer = Relocalizer.load(path, **options)
        return relocalizer, partial(relocalizer, camera_image())
    pipeline, images, camera, number = (
        GeometryPipeline.load(path, **options), camera_video(), video_camera(), count())
    if flow:
        pipeline.prepare_flow(newest_only=True)

    def process():
        i = next(number)
        result = pipeline(images[i % len(images)], camera, i * _FRAME_NS, flow=flow)
        # All of the work has to be done, or its time says nothing.
        if i > 0 and (result.odometry is None or result.odometry.standing):
            raise RuntimeError(f'no motion at image {i}: {result.reset} {result.reason}')
        return result
    return pipeline, process


def _write_untrained_geometry(path, architecture, crop):
    """Write networks for depth and ego-motion."""
    depth, depth_arguments, egomotion_arguments = VIDEO_NETWORKS[architecture]
    egomotion_arguments = {'sources': 2, **egomotion_arguments}
    torch.manual_seed(0)
    networks = {'depth': build_depth_network(depth, depth_arguments),
                'egomotion': EgoMotionNet(**egomotion_arguments)}
    arguments = {'depth': depth_arguments, 'egomotion': egomotion_arguments}
    if architecture == 'geonet_flow':
        networks['flow'] = build_flow_network('resflownet', {})
        arguments.update(flow_name='resflownet', flow={})
    tensors = {f'network.{part}.{name}': value.numpy() for part, network in networks.items()
               for name, value in network.state_dict().items()}
    save_model_file(path, Metadata(
        'geometry', depth, arguments,
        Preprocessing(min(crop), crop, mean=(127.5,) * 3, std=(127.5,) * 3, stretch=True),
        'euler_xyz', 'odom', calibration={'metres_per_unit': 1.0}), tensors)
