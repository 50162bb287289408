# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Odometry in metres from a model for depth from stereo pairs: as a model for geometry."""

from dataclasses import replace

from geo_perception.inference.corner_uncertainty import CornerCalibration
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.tape_scale import read_tape_scale
from geo_perception.inference.weights import stereo_rig

# What a motion may be wrong by at least, metres: a guess, for such models are trained without
# poses. The rest of the calibration has no unit of length.
FLOOR = 0.005


def as_geometry(model):
    """
    Return a model for geometry that finds depth as a stereo-trained one, and motion by alignment.

    Its unit is that of one over disparity in parts of the width, so that the metres per unit are
    what training knows of its stereo camera: no poses, wheels or height of the camera are asked
    for. Alignment needs no weights (`geo_perception.inference.motion.DirectMotion`).

    Parameters
    ----------
    model : ModelFile
        For depth from stereo pairs.

    Returns
    -------
    ModelFile
        Path and hash are those of the file.

    Raises
    ------
    ModelFileError
        When the file does not say how its network is built or what its rig was.

    """
    metadata = model.metadata
    arguments, reach = stereo_rig(metadata, model.path)
    tape = read_tape_scale(model)
    metres_per_unit = reach * tape.factor
    motion = replace(MotionCalibration(), floor_translation=FLOOR / metres_per_unit)
    # What "calibrate odometry" has learned.
    learned = {name: value for name, value in metadata.calibration.items()
               if name.startswith(CornerCalibration.PREFIX)}
    return replace(
        model,
        metadata=replace(
            metadata, job='geometry',
            arguments={'depth': arguments, 'egomotion_name': 'direct', 'egomotion': {}},
            calibration={'metres_per_unit': metres_per_unit, 'reach': reach,
                         'tape_measure': tape.sentence(), **motion.entries(), **learned}),
        tensors={f'network.depth.{name[len("network."):]}': value
                 for name, value in model.tensors.items() if name.startswith('network.')})
