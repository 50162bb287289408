# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Model files: safetensors with everything in the header that a node needs to run.

Loading reads JSON and numbers and executes nothing; pickles are recognised and refused.
"""

from dataclasses import asdict, dataclass, field, fields
import hashlib
import json
import os
import struct
from typing import Dict, Optional, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save_file

from geo_perception.atomic_files import replaced
from geo_perception.errors import ConfigurationError, ModelFileError, OutputError, PoseError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import project_to_rigid
from geo_perception.preprocessing import Preprocessing

FORMAT_VERSION = 1
HEADER_KEY = 'geo_perception'
LARGEST_HEADER = 100_000_000
LARGEST_NUMBER = 1_000_000


@dataclass(frozen=True)
class TrainingCamera:
    """
    The camera whose images the network was trained on, before any resizing.

    Attributes
    ----------
    width, height : int
        Pixels.
    fx, fy, cx, cy : float
        Pinhole intrinsics, pixels.

    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, camera):
        """
        Return what a model file tells of a camera.

        Parameters
        ----------
        camera : Camera
            Its distortion is not told: networks are trained on images without.

        Returns
        -------
        TrainingCamera

        """
        (fx, _, cx), (_, fy, cy) = camera.K[:2].tolist()
        return cls(camera.width, camera.height, fx, fy, cx, cy)

    def camera(self):
        """
        Return the same as a camera.

        Returns
        -------
        Camera

        """
        K = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        return Camera(K, self.width, self.height)


@dataclass(frozen=True)
class Metadata:
    """
    What a model file says about itself.

    Attributes
    ----------
    job : str
        ``relocalization``, ``geometry`` or ``stereo_depth``.
    architecture : str
        Name of the network.
    arguments : dict
        Arguments that build it.
    preprocessing : Preprocessing
        From camera image to network input.
    rotation : str
        Parametrisation of the rotation output, see `geo_perception.networks.rotation`.
    world_frame : str
        Name of the frame that poses are given in.
    T_map_world : tuple of tuple of float
        4x4; applied to the network's poses so that z points up in the published frame.
    training_camera : TrainingCamera, optional
        Unknown for recordings without intrinsics.
    calibration : dict
        Scales, floors and quantiles that turn the spread of samples into a covariance and a
        score, see `geo_perception.inference.uncertainty`.
    data : dict
        Summary of the training data.
    metrics : dict
        Validation metrics at export.
    versions : dict
        Software that trained it.
    place : dict
        What a place memory beside the network says about itself, see
        `geo_perception.inference.place`; empty without one.

    """

    job: str
    architecture: str
    arguments: Dict
    preprocessing: Preprocessing
    rotation: str
    world_frame: str
    T_map_world: Tuple = tuple(map(tuple, np.eye(4).tolist()))
    training_camera: Optional[TrainingCamera] = None
    calibration: Dict = field(default_factory=dict)
    data: Dict = field(default_factory=dict)
    metrics: Dict = field(default_factory=dict)
    versions: Dict = field(default_factory=dict)
    place: Dict = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """
    A loaded model file.

    Attributes
    ----------
    metadata : Metadata
        The header.
    tensors : dict of str to np.ndarray
        Network weights under ``network.``, and whatever else the job keeps.
    sha256 : str
        Hash of the file, to tell models apart in logs.
    path : str
        Where it was read from.

    """

    metadata: Metadata
    tensors: Dict[str, np.ndarray]
    sha256: str
    path: str

    def weights(self):
        """
        Return the network weights by parameter name, float32.

        Returns
        -------
        dict of str to np.ndarray

        """
        prefix = 'network.'
        return {name[len(prefix):]: value.astype(np.float32)
                for name, value in self.tensors.items() if name.startswith(prefix)}


def is_number(value):
    """
    Tell whether an entry of a header is a number that something can be.

    Parameters
    ----------
    value : object
        What JSON made of it.

    Returns
    -------
    bool
        False for what is not finite, and for what is larger than anything here (a million).

    """
    return isinstance(value, (int, float)) and abs(value) <= LARGEST_NUMBER


def save_model_file(path, metadata, tensors):
    """
    Write a model file, atomically.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination.
    metadata : Metadata
        The header.
    tensors : dict of str to np.ndarray
        Arrays to keep.

    Raises
    ------
    OutputError
        When the file cannot be written.

    """
    header = asdict(metadata)
    mean_image = header['preprocessing'].pop('mean_image')
    # Versions before these entries read files that do not need them.
    if not header['place']:
        del header['place']
    if header['preprocessing']['offset'] is None:
        del header['preprocessing']['offset']
    tensors = {name: np.asarray(value, order='C') for name, value in tensors.items()}
    if mean_image is not None:
        tensors['preprocessing.mean_image'] = np.asarray(mean_image, np.float32)
    header['format_version'] = FORMAT_VERSION
    try:
        # Straight into the file: in memory it would be there two more times.
        with replaced(path) as temporary:
            save_file(tensors, temporary, {HEADER_KEY: json.dumps(header)})
    except SafetensorError as error:
        raise OutputError(f'cannot write {path}: {error}') from error


def is_model_file(path):
    """
    Tell a model file from what else a path may name: a recording, or a checkpoint.

    Parameters
    ----------
    path : str or pathlib.Path
        Any.

    Returns
    -------
    bool

    """
    try:
        with open(path, 'rb') as file:
            return file.read(9)[8:] == b'{'
    except OSError:
        return False


def load_model_file(path, job=None):
    """
    Read a model file.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    job : str or tuple of str, optional
        What it must be for, or one of them.

    Returns
    -------
    ModelFile

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, not ours, newer than this package, or for another
        job.

    """
    path = str(path)
    if not path:
        raise ModelFileError('no model file was given; set the model to a .safetensors file '
                             'made by "geo_perception export"')
    try:
        with open(path, 'rb') as file:
            # Looked at first: what is no model may be a recording of any size.
            size = _header_size(path, file.read(9), os.fstat(file.fileno()).st_size)
            file.seek(0)
            data = file.read()
    except OSError as error:
        raise ModelFileError(f'cannot read model file {path}: {error.strerror}') from error
    header = _read_header(path, data[8:8 + size])
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f'model file {path} is damaged ({error}); copy it again') from error
    metadata = _parse_metadata(path, header, tensors.pop('preprocessing.mean_image', None))
    jobs = (job,) if isinstance(job, str) else job
    if jobs is not None and metadata.job not in jobs:
        raise ModelFileError(f'model file {path} is for {metadata.job}, not for '
                             f'{" or ".join(jobs)}')
    return ModelFile(metadata, tensors, hashlib.sha256(data).hexdigest(), path)


def _header_size(path, start, file_size):
    """Return the length of the safetensors header, after telling apart what else it may be."""
    foreign = f'{path} is not a geo_perception model file'
    mend = 'make one with "geo_perception export"'
    # The length of a header may begin with the same bytes.
    if start[8:] != b'{' and (start[:2] == b'PK' or start[:1] == b'\x80'):
        raise ModelFileError(f'{foreign} but a pickle (a PyTorch checkpoint?), which is never '
                             f'loaded because it can run code; {mend}')
    if len(start) < 9:
        raise ModelFileError(f'{foreign}: it has only {len(start)} bytes; {mend}')
    size = struct.unpack('<Q', start[:8])[0]
    if start[8:] != b'{' or size > LARGEST_HEADER:
        raise ModelFileError(f'{foreign}: it does not begin with a safetensors header; {mend}')
    if size > file_size - 8:
        raise ModelFileError(f'model file {path} is truncated: its header says {size} bytes, '
                             f'{file_size - 8} are left; copy it again')
    return size


def _read_header(path, text):
    """Return our part of a safetensors header."""
    try:
        text = json.loads(text).get('__metadata__', {}).get(HEADER_KEY)
        header = {} if text is None else dict(json.loads(text))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ModelFileError(f'model file {path} has a damaged header: {error}') from error
    if not header:
        raise ModelFileError(f'{path} is not a geo_perception model file: its header lacks the '
                             f'key "{HEADER_KEY}"; make one with "geo_perception export"')
    return header


def _parse_metadata(path, header, mean_image):
    """Return the header of this format version as dataclasses."""
    version = header.pop('format_version', None)
    if version != FORMAT_VERSION:
        raise ModelFileError(f'model file {path} has format version {version}, this package '
                             f'reads version {FORMAT_VERSION}; update geo_perception')
    return metadata_from_dict(header, mean_image, path)


def metadata_from_dict(header, mean_image, path):
    """
    Return metadata from what `dataclasses.asdict` made of it.

    Parameters
    ----------
    header : dict
        Plain numbers, strings, lists and dictionaries.
    mean_image : np.ndarray or None
        The mean image, which is kept apart.
    path : str
        Where it was read from, for messages.

    Returns
    -------
    Metadata

    Raises
    ------
    ModelFileError
        When an entry is missing, unknown or of another type.

    """
    header = dict(header)
    try:
        preprocessing = dict(header.pop('preprocessing'), mean_image=mean_image)
        for name in ('crop', 'mean', 'std'):
            preprocessing[name] = tuple(preprocessing[name])
        if preprocessing.get('offset') is not None:
            preprocessing['offset'] = tuple(preprocessing['offset'])
        camera = header.pop('training_camera')
        camera = None if camera is None else TrainingCamera(**camera)
        if camera is not None and not (
                all(map(is_number, asdict(camera).values()))
                and min(camera.width, camera.height, camera.fx, camera.fy) > 0):
            raise ValueError('the training camera has a size or focal length that is not positive')
        T_map_world = project_to_rigid(header.pop('T_map_world')).tolist()
        metadata = Metadata(preprocessing=Preprocessing(**preprocessing), training_camera=camera,
                            T_map_world=T_map_world, **header)
    except (KeyError, TypeError, ValueError, ConfigurationError, PoseError) as error:
        raise ModelFileError(f'the header of {path} is incomplete or unknown: {error}') from error
    for entry in fields(metadata):
        value = getattr(metadata, entry.name)
        if entry.type in (str, Dict) and not isinstance(value, str if entry.type is str else dict):
            raise ModelFileError(f'the header of {path} is damaged: {entry.name} is {value!r}')
    return metadata
