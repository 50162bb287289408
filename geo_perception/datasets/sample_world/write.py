# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Write the sample world as ROS 2 bags, rendered by all processor cores."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
import os
from pathlib import Path
import signal
import threading

import cv2

from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.sample_world.trajectory import T_BASE_CAMERA, TRAJECTORIES
from geo_perception.datasets.sample_world.world import BASELINE, CAMERA, SampleWorld, WORLD_FRAME
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.progress import track

_WORLD = None   # of a worker process


def write_sample_world(output, frames_train=500, frames_val=200, frames_test=250, seed=0,
                       overwrite=False, camera=CAMERA, workers=None, passes=tuple(TRAJECTORIES)):
    """
    Render passes of the sample world and write each as a ROS 2 bag (mcap).

    The bags depend on the frames, the seed and the camera only, not on the number of workers.

    Parameters
    ----------
    output : str or Path
        Folder for the bags ``train``, ``val`` and ``test``.
    frames_train, frames_val, frames_test : int
        Frames of each pass, at 10 Hz.
    seed : int
        Draws textures and colours.
    overwrite : bool
        Replace bags that are there.
    camera : Camera
        Left camera; its frame id names the frame of all images.
    workers : int, optional
        Rendering processes; by default one for each core this process may use.
    passes : tuple of str
        Which passes to write.

    Returns
    -------
    dict of str to Path
        The bags, by pass.

    Raises
    ------
    ConfigurationError
        When a number of frames, the seed or the number of workers is out of range.
    RecordingError
        When a bag is there already and ``overwrite`` is not set.

    """
    frames = {'train': frames_train, 'val': frames_val, 'test': frames_test}
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    for name, value, least in (*((f'frames_{name}', count, 1) for name, count in frames.items()),
                               ('seed', seed, 0), ('workers', workers, 1)):
        if value < least:
            raise ConfigurationError(f'{name} must be at least {least}, it is {value}')
    bags = {name: Path(output) / name for name in passes}
    # All are checked first: finding the last one taken after minutes of work is no help.
    for bag in bags.values():
        if bag.exists() and not overwrite:
            raise RecordingError(f'{bag} exists already; choose another output or pass overwrite')
    world = SampleWorld(seed, camera)
    # Not forked: OpenCV's threads do not survive a fork, and a worker would wait for them.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker,
                               (world,))
    try:
        for name, bag in bags.items():
            drive = world.drive(name, frames[name])
            jobs = [(name, frames[name], index) for index in range(frames[name])]
            rendered = pool.map(_render, jobs, chunksize=4)
            with BagWriter(bag, overwrite=overwrite) as writer:
                _write_drive(writer, drive, track(rendered, f'Rendering {name}', len(jobs)))
    except BrokenProcessPool as error:
        raise RecordingError(
            f'{bag} is not complete: a rendering process came to an end, perhaps for want of '
            'memory; a script of your own has to call write_sample_world under '
            "if __name__ == '__main__'") from error
    finally:
        pool.shutdown(cancel_futures=True)
    return bags


def _start_worker(world):
    """Prepare a rendering process: one thread, and an end when the parent ends in any way."""
    global _WORLD
    _WORLD = world
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _render(job):
    name, frames, index = job
    return _WORLD.drive(name, frames)[index]


def _write_drive(writer, drive, frames):
    """Write the frames of a drive, with its odometry and transforms."""
    odometry, twists = drive.odometry()
    for frame, T_odom_base, twist in zip(frames, odometry, twists):
        stamp, camera = frame.stamp, frame.camera
        if stamp == drive.stamps[0]:
            writer.transform(stamp, 'base_link', camera.frame_id, T_BASE_CAMERA, static=True)
        writer.transform(stamp, 'odom', 'base_link', T_odom_base)
        writer.odometry('/odom', stamp, 'odom', 'base_link', T_odom_base, twist)
        writer.pose('/ground_truth/pose', stamp, WORLD_FRAME, frame.T_world_camera)
        writer.camera_info('/camera/camera_info', stamp, camera)
        writer.camera_info('/camera/right/camera_info', stamp, camera, BASELINE)
        # In an order that gives image and depth, which are read most, chunks without the rest.
        for topic, array, encoding in (
                ('/camera/motion_mask', frame.motion_mask, 'mono8'),
                ('/camera/image_raw', frame.image, 'rgb8'),
                ('/camera/depth/image', frame.depth, '32FC1'),
                ('/camera/right/image_raw', frame.right, 'rgb8'),
                ('/camera/flow', frame.flow, '32FC2')):
            writer.image(topic, stamp, camera.frame_id, array, encoding)
