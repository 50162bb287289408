# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception sample``: render the sample world."""

from typing import Optional


def sample(*, output: str, frames_train: int = 500, frames_val: int = 200, frames_test: int = 250,
           seed: int = 0, overwrite: bool = False, json: Optional[str] = None):
    """
    Render the sample world: a furnished room, driven through three times, as three ROS 2 bags.

    Each bag holds stereo images (320x240, 10 Hz) with intrinsics, exact camera poses, depth,
    optical flow and masks of the moving objects, and drifting wheel odometry with its
    transforms.

    Parameters
    ----------
    output : str
        Folder for the bags ``train``, ``val`` and ``test``.
    frames_train : int
        Frames of the training pass, at 10 Hz.
    frames_val : int
        Frames of the validation pass, at 10 Hz.
    frames_test : int
        Frames of the test pass, at 10 Hz.
    seed : int
        Draws textures and colours; the same seed gives the same world.
    overwrite : bool
        Replace bags that are there.
    json : str, optional
        Write the paths of the bags to this file.

    Returns
    -------
    dict
        Paths of the bags: ``train``, ``val`` and ``test``.

    """
    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.sample_world import write_sample_world

    bags = write_sample_world(output, frames_train, frames_val, frames_test, seed, overwrite)
    paths = {name: str(path) for name, path in bags.items()}
    for path in paths.values():
        print(f'wrote {path}')
    write_outcome(json, paths)
    return paths
