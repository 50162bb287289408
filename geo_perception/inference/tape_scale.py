# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The scale of depth by a tape measure: distances that somebody measured, kept beside the model.

One factor and no more: with a handful of distances a slope would fit their errors
(monodepth.md section 18.1).
"""

from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Tuple

import numpy as np

from geo_perception.atomic_files import write_atomically
from geo_perception.errors import ConfigurationError, ModelFileError

# What the name of the file ends with, in place of the model's .safetensors.
SUFFIX = '.scale.json'
# Depth that varies more within a region (interquartile range over median) is not of one distance.
LARGEST_SPREAD = 0.2
# Share of width and height of the region in the middle that is taken when none is named.
MIDDLE = 0.1


@dataclass(frozen=True)
class TapeSample:
    """
    One measured distance.

    Attributes
    ----------
    measured, predicted : float
        Metres along the optical axis: by the tape, and by the network without any correction.
    where : str
        Image and region, for people.

    """

    measured: float
    predicted: float
    where: str = ''


@dataclass(frozen=True)
class TapeScale:
    """
    The factor on depth that fits some measured distances.

    Attributes
    ----------
    samples : tuple of TapeSample
        None: the factor is 1.

    """

    samples: Tuple[TapeSample, ...] = ()

    @property
    def factor(self):
        """Measured over predicted depth, the mean of its logarithm."""
        return float(np.exp(np.mean([np.log(s.measured / s.predicted) for s in self.samples]))) \
            if self.samples else 1.0

    def sentence(self):
        """
        Return the factor and how well it fits.

        Returns
        -------
        str
            One sentence, empty without samples.

        """
        if not self.samples:
            return ''
        rest = [100 * (self.factor * s.predicted / s.measured - 1) for s in self.samples]
        count = 'one measured distance' if len(rest) == 1 else f'{len(rest)} measured distances'
        told = '' if len(rest) == 1 else \
            f', which it fits to {", ".join(f"{value:+.1f}" for value in rest)} %'
        return f'Depth is multiplied by {self.factor:.4f}, by {count}{told}.'


def read_tape_scale(model):
    """
    Return the distances that were measured for a model.

    Parameters
    ----------
    model : ModelFile
        Beside which they are kept.

    Returns
    -------
    TapeScale
        Without samples where there is no file.

    Raises
    ------
    ModelFileError
        When the file is damaged, or of another model.

    """
    path = tape_file(model)
    if not path.is_file():
        return TapeScale()
    try:
        content = json.loads(path.read_text(errors='replace'))
        sha256 = content['model_sha256']
        scale = TapeScale(tuple(TapeSample(**sample) for sample in content['samples']))
        if not all(0 < value < np.inf for s in scale.samples
                   for value in (s.measured, s.predicted)):
            raise ValueError('a distance is not above zero')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f'{path} holds no measured distances ({type(error).__name__}: '
                             f'{error}); delete it and calibrate again') from None
    if sha256 != model.sha256:
        raise ModelFileError(f'{path} was measured with another model than {model.path}; delete '
                             'it and calibrate again')
    return scale


def write_tape_scale(model, scale):
    """
    Keep measured distances beside a model; none deletes the file.

    Parameters
    ----------
    model : ModelFile
        Beside which.
    scale : TapeScale
        What is kept.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OutputError
        When it cannot be written.

    """
    path = tape_file(model)
    if not scale.samples:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ModelFileError(f'cannot delete {path}: {error.strerror}') from error
        return path
    content = {'model_sha256': model.sha256, 'factor': scale.factor,
               'samples': [asdict(sample) for sample in scale.samples]}
    write_atomically(path, (json.dumps(content, indent=1) + '\n').encode())
    return path


def tape_file(model):
    """
    Return the file beside a model that measured distances are kept in.

    Parameters
    ----------
    model : ModelFile
        Any.

    Returns
    -------
    pathlib.Path

    """
    return Path(model.path).with_suffix(SUFFIX)


def measure(depth, distance, region=None, where=''):
    """
    Return a sample from a depth image.

    Parameters
    ----------
    depth : np.ndarray
        Without any correction, metres, NaN where unknown, shape (H, W).
    distance : float
        By the tape, metres along the optical axis.
    region : tuple of int, optional
        Left, top, width and height of what was measured, pixels; by default a tenth of the width
        and height in the middle.
    where : str
        For people.

    Returns
    -------
    TapeSample

    Raises
    ------
    ConfigurationError
        When the distance is none, or the region is outside, or no surface at one distance.

    """
    if not 0 < distance < np.inf:
        raise ConfigurationError(f'the measured distance is {distance} m; it has to be above 0')
    height, width = depth.shape
    if region is None:
        w, h = max(1, round(MIDDLE * width)), max(1, round(MIDDLE * height))
        region = (width - w) // 2, (height - h) // 2, w, h
    left, top, w, h = region
    if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
        raise ConfigurationError(f'the region {left},{top},{w},{h} (left, top, width, height) is '
                                 f'not within the image of {width}x{height} pixels')
    inside = depth[top:top + h, left:left + w]
    known = inside[np.isfinite(inside)]
    if 2 * len(known) < inside.size:
        raise ConfigurationError(f'of the region {left},{top},{w},{h} too little depth is known')
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    if high - low > LARGEST_SPREAD * middle:
        raise ConfigurationError(
            f'depth in the region {left},{top},{w},{h} goes from {low:.2f} to {high:.2f} m: it '
            'is not one surface that faces the camera; choose a smaller region')
    return TapeSample(float(distance), float(middle), f'{where} {left},{top},{w},{h}'.strip())


def parse_region(text):
    """
    Return a region as numbers.

    Parameters
    ----------
    text : str
        ``left,top,width,height``, pixels; empty for the middle.

    Returns
    -------
    tuple of int or None

    Raises
    ------
    ConfigurationError
        When it is nothing of that kind.

    """
    if not text:
        return None
    try:
        left, top, width, height = (int(word) for word in text.split(','))
    except ValueError:
        raise ConfigurationError(f"the region is '{text}'; write left,top,width,height in pixels, "
                                 'such as 300,200,40,40') from None
    return left, top, width, height
