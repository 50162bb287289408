# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A relocalizer and a recording become one place file."""

from dataclasses import replace
import logging

import numpy as np

from geo_perception.datasets.frame import SlicedSequence
from geo_perception.datasets.readable import first_readable, readable_frames
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.inference.fix_covariance import UNCALIBRATED
from geo_perception.inference.gate import Gate
from geo_perception.inference.place import Place, PREFIX
from geo_perception.inference.retrieval import thumbnail
from geo_perception.inference.verified import VerifiedRelocalizer
from geo_perception.progress import track
from geo_perception.training.place_calibration import (
    coverage, fit_covariance, fit_focal_error, fit_gate, run_trials)
from geo_perception.training.place_memory import (
    choose_key_frames, DepthOfFrames, make_key_frames, UNKNOWN_DEPTH)
from geo_perception.training.repeats import find_repeats
from geo_perception.training.triangulation import triangulate_key_frames

_logger = logging.getLogger(__name__)
# Weights with at least so many numbers are kept with 16 bits; they are computed with in 32.
LARGE = 4096
# A key frame with fewer points is where the map will refuse.
FEW_POINTS = 60
# Frames that a recording as a whole is judged by.
PROBES = 40
# What stands in a place before its gate is fitted: trials do not ask it.
_OPEN = Gate((0.0,) * 8, (0.0,) * 8, 0.0, 0, 1.0)


def make_place_file(sequence, relocalizer, name, features='sift', largest=200, extend=False):
    """
    Return header and tensors of a place file.

    Parameters
    ----------
    sequence : Sequence
        Frames with poses and intrinsics.
    relocalizer : Relocalizer
        For coarse poses.
    name : str
        Of the recording.
    features : str
        Kind of local features.
    largest : int
        Key frames of this recording at most.
    extend : bool
        Whether the relocalizer's file has a place memory that is kept.

    Returns
    -------
    metadata : Metadata
    tensors : dict of str to np.ndarray

    Raises
    ------
    RecordingError
        When the recording has nothing to make a map of, or its poses are in another frame than
        those of the place memory that is kept.
    ConfigurationError
        When there is no place memory to extend.

    """
    model = relocalizer.model
    known = Place.from_model(model) if extend else None
    if extend and known is None:
        raise ConfigurationError(f'{model.path} has no place memory to add to; leave out --add '
                                 'and give it as --relocalizer')
    if known is not None:
        features = known.features
    if sequence.poses is None:
        raise RecordingError(f'{name} has no poses, and a map is made of frames with poses')
    sequence = _usable(sequence)
    if known is not None:
        _refuse_other_frame(VerifiedRelocalizer(relocalizer, known), sequence)
    has_depth = DepthOfFrames(sequence).has_depth()
    depth = _typical_depth(sequence) if has_depth else UNKNOWN_DEPTH
    indices = choose_key_frames(sequence.poses, depth, largest,
                                None if known is None else known.poses)
    frames = (make_key_frames if has_depth else triangulate_key_frames)(
        sequence, indices, features)
    if not frames:
        raise RecordingError(_nothing(name, len(indices), has_depth))
    place = _joined(known, frames, first_readable(sequence).camera, features)
    place = replace(place, repeats=find_repeats(place))
    sources = np.concatenate([np.full(0 if known is None else len(known.poses), -1),
                              [frame.index for frame in frames]]).astype(int)
    trials = run_trials(place, sequence, sources, relocalizer)
    place = replace(place, gate=fit_gate(trials))
    place = replace(place, calibration=fit_covariance(trials))
    counts = np.diff(place.first)
    few = np.flatnonzero(counts < FEW_POINTS)
    warnings = [] if not len(few) else [
        f'{len(few)} of {len(counts)} key frames have fewer than {FEW_POINTS} points (bare walls, '
        'blur or no depth): views like theirs may be refused, e.g. from ' + ', '.join(
            '({:.1f}, {:.1f}, {:.1f})'.format(*place.poses[i, :3, 3]) for i in few[:3])]
    recordings = [] if known is None else list(known.summary['recordings'])
    place = replace(
        place, focal_error=fit_focal_error(trials, place), summary={
            'recordings': [*recordings, name], 'key_frames': len(place.poses),
            'points': len(place.points),
            'points_from': 'depth' if has_depth else 'triangulation',
            'coverage': coverage(trials, place), 'warnings': warnings})
    tensors = {key: _compact(key, value) for key, value in model.tensors.items()
               if not key.startswith(PREFIX)}
    if known is not None:
        _remember_thumbnails(tensors, sequence, frames)
    return (replace(model.metadata, place=place.header()), {**tensors, **place.tensors()})


def _nothing(name, frames, has_depth):
    """Return why no point came out of a recording."""
    if not frames:
        return f'{name} shows nothing that the place memory does not know already'
    if has_depth:
        return (f'none of {frames} key frames of {name} shows features with depth: the scene is '
                'bare, or its depth is not registered to the images')
    return (f'{name} has no depth, and none of its {frames} key frames has points with parallax: '
            'the camera turned without moving, or what it saw is bare or far; record it while '
            'moving sideways, or with depth. The relocalizer alone still gives coarse poses')


def _usable(sequence):
    """Return the frames whose poses are finite."""
    finite = np.isfinite(sequence.poses).all((1, 2))
    return sequence if finite.all() else SlicedSequence(sequence, np.flatnonzero(finite))


def _probes(sequence):
    """Return a few frames, evenly spread."""
    return np.unique(np.linspace(0, len(sequence) - 1, PROBES).astype(int))


def _refuse_other_frame(relocalizer, sequence):
    """Raise where the poses of a recording contradict what is known of the place."""
    found, recorded = [], []
    for _, frame in readable_frames(sequence, _probes(sequence)):
        fix = relocalizer(frame.image, frame.camera)
        if fix.accepted:
            found.append(fix.T_world_camera)
            recorded.append(relocalizer.T_map_world @ frame.T_world_camera)
    if not found:
        _logger.warning('the place memory recognises none of the frames of the recording that it '
                        'looked at, so that nothing tells whether their poses are in the frame of '
                        'the map; if they are not, make a map of its own of them')
    relocalizer.place.refuse_other_frame(np.array(found), np.array(recorded))


def _typical_depth(sequence):
    """Return how far the scene is, metres."""
    depths = []
    for _, frame in readable_frames(sequence, _probes(sequence)):
        depth = frame.depth
        if depth is not None and np.isfinite(depth).any():
            depths.append(float(np.nanmedian(depth)))
    return float(np.median(depths)) if depths else UNKNOWN_DEPTH


def _joined(known, frames, camera, features):
    """Return a place of key frames that are known and of new ones."""
    poses = np.array([frame.T_world_camera for frame in frames])
    depths = np.array([frame.depth for frame in frames], np.float32)
    counts = [len(frame.points) for frame in frames]
    points = np.concatenate([frame.points for frame in frames])
    descriptors = np.concatenate([frame.descriptors for frame in frames])
    if known is not None:
        poses = np.concatenate([known.poses, poses])
        depths = np.concatenate([known.depths, depths])
        counts = [*np.diff(known.first), *counts]
        points = np.concatenate([known.points, points])
        descriptors = np.concatenate([known.descriptors, descriptors])
        camera = known.camera
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Place(features, camera, poses, depths, first, points, descriptors,
                 np.full(len(points), np.inf, np.float32), _OPEN, UNCALIBRATED, (0.0, 1.0), {})


def _compact(name, value):
    """Return a tensor of the relocalizer as it is kept."""
    if name.startswith('network.') and value.dtype == np.float32 and value.size >= LARGE:
        return value.astype(np.float16)
    return value


def _remember_thumbnails(tensors, sequence, frames):
    """Let retrieval know the new key frames, too."""
    if 'retrieval.thumbnails' not in tensors:
        return
    thumbnails = [thumbnail(sequence[frame.index].image)
                  for frame in track(frames, 'Making thumbnails')]
    tensors['retrieval.thumbnails'] = np.concatenate([
        tensors['retrieval.thumbnails'],
        np.array(thumbnails, tensors['retrieval.thumbnails'].dtype)])
    tensors['retrieval.poses'] = np.concatenate([
        tensors['retrieval.poses'], [frame.T_world_camera for frame in frames]])
