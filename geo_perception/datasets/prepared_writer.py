# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Write the published form of prepared training data (sfmlearner.md section 5.1)."""

from dataclasses import dataclass
import io
import json
import logging
import math
from pathlib import Path

import numpy as np
from PIL import Image

from geo_perception.atomic_files import write_atomically
from geo_perception.datasets.prepared import LISTS, read_settings, SETTINGS, strip_files
from geo_perception.datasets.snippets import image_motion, moving_snippets
from geo_perception.errors import RecordingError
from geo_perception.progress import track

# Each strip goes to validation with this probability.
_VAL_SHARE = 0.1
_SEED = 8964
# The height that is kept of Cityscapes; below is the bonnet.
_KEPT = 0.75

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drive:
    """
    One video that strips are cut from.

    Attributes
    ----------
    folder : str
        Where its strips go, in the prepared folder.
    images : list of Path
        In order of time.
    numbers : list of int
        Frame number of each.
    names : list of str
        What the strip with this image in the middle is called.
    cameras : list of Camera
        Of the images, at their size.

    """

    folder: str
    images: list
    numbers: list
    names: list
    cameras: list

    def snippets(self, length, step=1, allow_gaps=False):
        """
        Return the runs of frames whose numbers follow each other.

        Parameters
        ----------
        length : int
            Frames of a snippet, odd.
        step : int
            Difference of their numbers.
        allow_gaps : bool
            Take neighbours in the list, whatever their numbers, as the published tool does: time
            jumps where standing frames were removed.

        Returns
        -------
        np.ndarray
            Indices, shape (M, length).

        """
        offsets = step * (np.arange(length) - length // 2)
        if allow_gaps:
            centres = np.arange(-offsets[0], len(self.images) - offsets[-1])
            return centres[:, None] + offsets
        index = {number: i for i, number in enumerate(self.numbers)}
        runs = ([index.get(number + offset) for offset in offsets] for number in index)
        return np.array([run for run in runs if None not in run], int).reshape(-1, length)


@dataclass(frozen=True)
class Form:
    """
    What strips look like.

    Attributes
    ----------
    length : int
        Tiles of a strip, odd.
    height, width : int
        Of a tile, pixels.
    crop_bottom : bool
        Keep the upper three quarters: images are resized to a height of 4/3 first.
    exact : bool
        Move the principal point as the resampler moves pixel centres. The published tool scales
        it instead, which is off by up to half a pixel.

    Raises
    ------
    RecordingError
        When a number makes no sense.

    """

    length: int = 3
    height: int = 128
    width: int = 416
    crop_bottom: bool = False
    exact: bool = False

    def __post_init__(self):
        """Refuse what no network could take."""
        if self.length < 3 or self.length % 2 == 0:
            raise RecordingError(f'length is {self.length}; strips have 3 or 5 tiles, an odd '
                                 'number with the target in the middle')
        if min(self.height, self.width) < 16:
            raise RecordingError(f'{self.width}x{self.height} pixels are too small; choose a '
                                 'height and width of 16 and more')

    @property
    def resized_height(self):
        """Height before the bottom is cut off, pixels."""
        return math.ceil(self.height / _KEPT) if self.crop_bottom else self.height

    def tile(self, image, camera):
        """
        Return one image at its final size.

        Eight-bit bilinear resampling with antialiasing, by Pillow, as published.

        Parameters
        ----------
        image : Path
            File.
        camera : Camera
            Tells the size that it must have.

        Returns
        -------
        np.ndarray
            uint8 RGB, shape (height, width, 3).

        Raises
        ------
        RecordingError
            When it has another size.
        OSError, SyntaxError, ValueError
            When it is no picture.

        """
        with Image.open(image) as picture:
            if picture.size != (camera.width, camera.height):
                raise RecordingError(f'{image} has {picture.width}x{picture.height} pixels, but '
                                     f'its calibration is for {camera.width}x{camera.height}')
            resized = picture.convert('RGB').resize((self.width, self.resized_height),
                                                    Image.BILINEAR)
        return np.asarray(resized)[:self.height]

    def intrinsics(self, camera):
        """
        Return the intrinsics of a tile.

        Parameters
        ----------
        camera : Camera
            Of the image that it is made from.

        Returns
        -------
        np.ndarray
            3x3, pixels.

        """
        if self.exact:
            return camera.resized(self.width, self.resized_height).K
        scale = [[self.width / camera.width], [self.resized_height / camera.height], [1.0]]
        return camera.K * scale


def write_prepared(output, drives, snippets, form, settings, moving_only=False):
    """
    Write strips, their intrinsics and the lists of training and validation.

    Every file appears complete or not at all. Strips that are there already are not written again,
    so that an interrupted run continues.

    Parameters
    ----------
    output : str or Path
        Folder.
    drives : list of Drive
        What to cut up.
    snippets : list of np.ndarray
        Indices of frames of each drive, shape (M, form.length).
    form : Form
        What strips look like.
    settings : dict
        What else the folder depends on; kept in it, and compared when a run continues.
    moving_only : bool
        Leave out snippets in which the picture hardly moves.

    Returns
    -------
    dict
        Numbers of strips: ``strips``, ``train``, ``val``, and of those ``written`` now;
        ``unreadable``, which lack an image; ``standing``, which were left out.

    Raises
    ------
    RecordingError
        When nothing remains, or the folder was prepared otherwise.
    OutputError
        When it cannot be written.

    """
    output = Path(output)
    settings = {**settings, 'length': form.length, 'height': form.height, 'width': form.width,
                'intrinsics': 'exact' if form.exact else 'published'}
    _claim(output, settings)
    reader = _Reader(form)
    counts = {'strips': 0, 'train': 0, 'val': 0, 'written': 0, 'unreadable': 0, 'standing': 0}
    done = []
    strips = _write_strips(output, zip(drives, snippets), reader, moving_only)
    for name, state in track(strips, 'Writing strips', sum(map(len, snippets))):
        if state in counts:
            counts[state] += 1
        if state in ('written', 'there'):
            done.append(name)
    if reader.unreadable:
        _logger.warning('%d images cannot be read, and %d strips are left out for it (first: %s)',
                        len(reader.unreadable), counts['unreadable'], reader.unreadable[0])
    if not done:
        raise RecordingError(
            f'no strip of {form.length} frames is left for {output}: of {len(drives)} drives, '
            f'{counts["standing"]} snippets stand still and {counts["unreadable"]} hold images '
            'that cannot be read')
    # Sorted before the draw, so that the split is the same everywhere.
    done.sort()
    held_out = np.random.RandomState(_SEED).random_sample(len(done)) < _VAL_SHARE
    for name, chosen in zip(LISTS, (~held_out, held_out)):
        lines = [' '.join(done[i]) for i in np.flatnonzero(chosen)]
        # Official readers cut the last character of each line.
        write_atomically(output / name, ''.join(f'{line}\n' for line in lines).encode())
    return {**counts, 'strips': len(done), 'train': int(np.sum(~held_out)),
            'val': int(np.sum(held_out))}


class _Reader:
    """Tiles of images, each read once although several strips show it."""

    def __init__(self, form):
        self.form, self.unreadable = form, []
        self._recent = {}

    def __call__(self, image, camera):
        """Return the tile, or None when the image cannot be read."""
        if image not in self._recent:
            # Five frames two numbers apart span nine.
            while len(self._recent) > 4 * self.form.length:
                self._recent.pop(next(iter(self._recent)))
            try:
                self._recent[image] = self.form.tile(image, camera)
            except (OSError, SyntaxError, ValueError):  # what Pillow says of damaged files
                if image not in self.unreadable:
                    self.unreadable.append(image)
                return None
        return self._recent[image]


def _moving(drive, runs, reader):
    """Return the snippets of a drive in which the picture moves."""
    black = np.zeros((reader.form.height, reader.form.width, 3), np.uint8)
    tiles = (reader(image, camera) for image, camera in zip(drive.images, drive.cameras))
    motion = image_motion(black if tile is None else tile for tile in tiles)
    try:
        return moving_snippets(runs, motion)
    except RecordingError:
        return runs[:0]


def _write_strips(output, drives, reader, moving_only):
    """Yield ((folder, name), what became of it) for every snippet."""
    for drive, runs in drives:
        moving = _moving(drive, runs, reader) if moving_only else runs
        for _ in range(len(runs) - len(moving)):
            yield None, 'standing'
        for run in moving:
            name = drive.folder, drive.names[run[len(run) // 2]]
            yield name, _write_strip(output.joinpath(*name), drive, run, reader)


def _write_strip(path, drive, run, reader):
    """Write a strip and its intrinsics, unless they are there or an image cannot be read."""
    strip, intrinsics = strip_files(path)
    if strip.is_file() and intrinsics.is_file():
        return 'there'
    tiles = [reader(drive.images[i], drive.cameras[i]) for i in run]
    if any(tile is None for tile in tiles):
        return 'unreadable'
    K = reader.form.intrinsics(drive.cameras[run[len(run) // 2]])
    buffer = io.BytesIO()
    # Pillow's default quality, 75, is the published one.
    Image.fromarray(np.concatenate(tiles, 1)).save(buffer, 'JPEG')
    write_atomically(intrinsics, (f'{K[0, 0]:f},0.,{K[0, 2]:f},0.,{K[1, 1]:f},{K[1, 2]:f},'
                                  '0.,0.,1.').encode())
    write_atomically(strip, buffer.getvalue())
    return 'written'


def _claim(output, settings):
    """Write down how the folder is prepared, unless it was prepared otherwise."""
    if not (output / SETTINGS).is_file():
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise RecordingError(f'{output} exists and holds something else than a prepared '
                                 'folder; choose another output')
        write_atomically(output / SETTINGS, json.dumps(settings, indent=1).encode() + b'\n')
        return
    there = read_settings(output)
    other = [f'{name} {there.get(name)} instead of {settings[name]}' for name in settings
             if there.get(name) != settings[name]]
    if other:
        raise RecordingError(f'{output} was prepared with {", ".join(other)}; choose another '
                             'output, or the same options to continue')
