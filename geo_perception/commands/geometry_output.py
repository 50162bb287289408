# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The folder that ``infer`` writes with a geometry model: depth, previews and trajectories."""

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np

from geo_perception.atomic_files import write_atomically
from geo_perception.commands.outcome import kept_when_interrupted
from geo_perception.datasets.flow_files import flo_bytes, kitti_flow_bytes
from geo_perception.errors import GeoPerceptionError, ImageError, RecordingError
from geo_perception.geometry.se3 import quaternion_from_matrix
from geo_perception.inference.flow_picture import flow_picture, longest_flow
from geo_perception.inference.preview import preview
from geo_perception.progress import track

# 65.535 m is the farthest that 16 bits hold in millimetres.
MILLIMETRES, FARTHEST = 1000.0, 65535
COLUMNS = ('index', 'name', 'stamp_ns', 'depth_median', 'residual', 'standing', 'tracking',
           'piece', 'reset', 'reason', 'warning')
_NUMBER = '[0-9]' * 6
_RESULTS = ('frames.csv', 'camera.json', 'trajectory_tum*.txt', 'trajectory_kitti*.txt',
            *(f'{kind}/{_NUMBER}.*' for kind in (
                'depth_npy', 'depth_png', 'preview', 'flow_flo', 'flow_png', 'flow_preview',
                'motion_mask', 'motion_score')))


def write_geometry(pipeline, sequence, output, flow=False, motion=False):
    """
    Run a geometry pipeline over images and write all that it says.

    Files: ``depth_png/`` (16 bits, millimetres, 0 = unknown or beyond 65.5 m; only where the
    scale is known), ``depth_npy/`` (float32, NaN = unknown), ``preview/``, ``frames.csv``,
    ``camera.json`` (of the depth images), and the trajectory in TUM's and KITTI's form, a piece
    for each time the odometry started anew. With ``flow``: ``flow_flo/``, ``flow_png/`` (KITTI's
    form) and ``flow_preview/`` (image, full and rigid flow), from each image to the next one. With
    ``motion``: ``motion_mask/`` (255 where it moves by itself) and ``motion_score/``.

    Parameters
    ----------
    pipeline : GeometryPipeline
        What is run; images without intrinsics get relative depth and no odometry.
    sequence : Sequence
        Images.
    output : str or pathlib.Path
        Folder; it is created. What an earlier run left in it is replaced.
    flow, motion : bool
        Whether these are wanted as well.

    Returns
    -------
    dict
        What was written, in numbers and sentences.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    ModelFileError
        When flow is wanted of a model that has none.

    """
    if flow or motion:
        pipeline.prepare_flow()
    written = _Written(Path(output), len(sequence), flow, motion)

    def keep():
        if not written.rows:
            return
        written.finish()
        print(f'stopped after {len(written.rows)} of {len(sequence)} images; they are in {output}')

    with kept_when_interrupted(keep):
        for i in track(range(len(sequence)), 'Depth and odometry'):
            try:
                frame = sequence[i]
                seen = _process(pipeline, frame, flow or motion)
            except (ImageError, RecordingError) as error:
                written.fail(i, int(sequence.stamps[i]), error)
                continue
            written.add(i, frame, *seen)
    pieces = written.finish()
    return {**written.counts, 'pieces': pieces, 'output': str(output),
            'scale': pipeline.scale().sentence,
            'metres_per_unit': pipeline.scale().metres_per_unit,
            'intrinsics': written.camera is not None, 'warnings': written.warnings}


class _Written:
    """
    The folder as it grows: pictures at once, tables and trajectories at the end.

    Parameters
    ----------
    folder : pathlib.Path
        Where to.
    images : int
        How many there will be.
    flow, motion : bool
        Whether these are written.

    """

    def __init__(self, folder, images, flow, motion):
        self._folder, self._flow, self._motion = folder, flow, motion
        self.counts = {'images': images, 'depth': 0, 'metric': 0, 'odometry': 0, 'resets': 0,
                       'failed': 0, **({'flow': 0} if flow or motion else {})}
        self.rows, self.warnings, self.camera = [], [], None
        self._pieces, self._earlier = [], None
        clear_earlier_results(folder)

    def fail(self, i, stamp, error):
        """Note an image that cannot be read."""
        self.counts['failed'] += 1
        self.rows.append(failed_row(i, stamp, error))

    def add(self, i, frame, depth, odometry, row, moved):
        """Write what `_process` says about an image."""
        name, known = f'{i:06d}', np.isfinite(depth.depth).any()
        if known:
            self.counts['depth'] += 1
            self.counts['metric'] += depth.metric
            self.camera = depth.camera or self.camera
            write_depth(self._folder, name, depth, frame.image)
        if row.get('reset') or not self._pieces:
            self._pieces.append([])
            self.counts['resets'] += bool(row.get('reset'))
        if odometry is not None:
            self.counts['odometry'] += 1
            self._pieces[-1].append((frame.stamp, odometry.T_odom_camera))
            if moved is not None:
                self.counts['flow'] += 1
                _write_flow(self._folder, *self._earlier, moved, self._flow, self._motion)
            self._earlier = name, frame.image
        elif not self._pieces[-1] and known and frame.camera is not None:
            self._pieces[-1].append((frame.stamp, np.eye(4)))
            self._earlier = name, frame.image
        if row.get('warning') and row['warning'] not in self.warnings:
            self.warnings.append(row['warning'])
        self.rows.append({**depth_row(i, frame, depth), 'piece': len(self._pieces), **row})

    def finish(self):
        """Write the table, the intrinsics and the trajectory; return in how many pieces it is."""
        write_table(self._folder / 'frames.csv', self.rows)
        # A piece of one frame is no way.
        pieces = [piece for piece in self._pieces if len(piece) > 1]
        _write_trajectories(self._folder, pieces)
        if self.camera is not None:
            write_camera(self._folder / 'camera.json', self.camera)
        return len(pieces)


def clear_earlier_results(folder):
    """
    Remove what an earlier run wrote, whose images would stand between those of this one.

    Parameters
    ----------
    folder : pathlib.Path
        Where they may be; one without our table is left alone.

    """
    try:
        with open(folder / 'frames.csv') as table:
            ours = table.readline().startswith(','.join(COLUMNS[:4]))
    except (OSError, UnicodeDecodeError):
        return
    if ours:
        for pattern in _RESULTS:
            for path in folder.glob(pattern):
                path.unlink()


def summary_sentence(summary):
    """
    Return what was written, for a person.

    Parameters
    ----------
    summary : dict
        From `write_geometry`.

    Returns
    -------
    str
        Lines.

    """
    lines = [f"{summary['images']} images: {depths_in_words(summary)}, "
             f"{summary['odometry']} poses in {summary['pieces']} pieces, "
             f"{summary['failed']} unreadable; wrote {summary['output']}"]
    if not summary['intrinsics']:
        lines.append('These images have no intrinsics: their depth is relative, and there is no '
                     'odometry, which needs to know in which direction each pixel looks; record '
                     'camera_info beside the images, or write cam.txt into a folder of images.')
    else:
        lines.append(summary['scale'])
    return '\n'.join([*lines, *summary['warnings']])


def depths_in_words(summary):
    """
    Return how many depths were written, and in which unit.

    Parameters
    ----------
    summary : dict
        ``depth`` of them, of which ``metric`` are in metres.

    Returns
    -------
    str
        A part of a sentence.

    """
    depths, metric = summary['depth'], summary['metric']
    unit = ('up to scale' if not metric else 'metres' if metric == depths else
            f'{metric} in metres, the others up to scale')
    return f'{depths} depths ({unit})'


def _process(pipeline, frame, flow):
    """Return depth, odometry or None, what the table says about one frame, and flow or None."""
    if frame.camera is None:
        return pipeline.depth_only(frame.image, None), None, {
            'reason': 'the image has no intrinsics'}, None
    result = pipeline(frame.image, frame.camera, frame.stamp, flow)
    row = {'reset': result.reset, 'reason': result.reason, 'warning': result.warning}
    if result.odometry is not None:
        row.update(residual=f'{result.odometry.residual:.4f}',
                   standing=int(result.odometry.standing),
                   tracking=result.odometry.state)
    if result.flow is not None and result.flow.reason:
        row['warning'] = ' '.join(filter(None, [row['warning'], result.flow.reason]))
    return result.depth, result.odometry, row, result.flow


def _write_flow(folder, name, image, estimate, flow, motion):
    """Write the flow from an image to the next, and what moves in it."""
    known = estimate.forward
    if flow:
        write_atomically(folder / 'flow_flo' / f'{name}.flo', flo_bytes(known.flow))
        write_atomically(folder / 'flow_png' / f'{name}.png', kitti_flow_bytes(known.flow))
        longest = longest_flow(known.flow)
        height, width = known.flow.shape[:2]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        pictures = [small, *(flow_picture(f, longest) for f in (known.flow, known.rigid))]
        _write_image(folder / 'flow_preview' / f'{name}.jpg',
                     np.concatenate(pictures)[..., ::-1])
    if motion:
        _write_image(folder / 'motion_mask' / f'{name}.png', np.uint8(255) * known.moving)
        buffer = io.BytesIO()
        np.save(buffer, known.score)
        write_atomically(folder / 'motion_score' / f'{name}.npy', buffer.getvalue())


def write_camera(path, camera):
    """
    Write the intrinsics of depth images.

    Parameters
    ----------
    path : pathlib.Path
        JSON file.
    camera : Camera
        Without distortion.

    """
    write_atomically(path, json.dumps({
        'width': camera.width, 'height': camera.height, 'fx': camera.K[0, 0],
        'fy': camera.K[1, 1], 'cx': camera.K[0, 2], 'cy': camera.K[1, 2]}, indent=2).encode())


def write_depth(folder, name, depth, image):
    """
    Write one depth in all forms.

    Parameters
    ----------
    folder : pathlib.Path
        Where ``depth_npy``, ``depth_png`` and ``preview`` are.
    name : str
        Of the files, without suffix.
    depth : DepthEstimate
        What is written.
    image : np.ndarray
        What it is of, (H, W, 3) uint8 RGB.

    """
    buffer = io.BytesIO()
    np.save(buffer, depth.depth)
    write_atomically(folder / 'depth_npy' / f'{name}.npy', buffer.getvalue())
    if depth.metric:
        millimetres = np.nan_to_num(depth.depth * MILLIMETRES, nan=0.0)
        millimetres[millimetres > FARTHEST] = 0
        _write_image(folder / 'depth_png' / f'{name}.png', millimetres.round().astype(np.uint16))
    _write_image(folder / 'preview' / f'{name}.jpg', preview(depth.depth, image))


def _write_image(path, image):
    """Write a picture in the format of its suffix."""
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise GeoPerceptionError(f'cannot encode {path}')
    write_atomically(path, data.tobytes())


def depth_row(i, frame, depth):
    """
    Return what the table says about the depth of an image.

    Parameters
    ----------
    i : int
        Number of the image.
    frame : Frame
        The image.
    depth : DepthEstimate
        Of it.

    Returns
    -------
    dict
        Entries by `COLUMNS`; the median is empty where no depth is known.

    """
    known = depth.depth[np.isfinite(depth.depth)]
    return {'index': i, 'name': frame.name, 'stamp_ns': frame.stamp,
            'depth_median': f'{np.median(known):.4f}' if known.size else ''}


def failed_row(i, stamp, error):
    """
    Return what the table says about an image that cannot be read.

    Parameters
    ----------
    i : int
        Number of the image.
    stamp : int
        Nanoseconds.
    error : Exception
        Why.

    Returns
    -------
    dict
        Entries by `COLUMNS`.

    """
    return {'index': i, 'name': f'frame {i}', 'stamp_ns': stamp, 'reason': str(error)}


def write_table(path, rows):
    """
    Write what is known about each frame.

    Parameters
    ----------
    path : pathlib.Path
        CSV file.
    rows : list of dict
        Entries by `COLUMNS`.

    """
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, restval='')
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, table.getvalue().encode())


def _write_trajectories(folder, pieces):
    """Write each piece in both forms; the second is ``..._2.txt`` and so on."""
    for number, piece in enumerate(pieces, 1):
        suffix = '' if number == 1 else f'_{number}'
        tum, kitti = [], []
        for stamp, T in piece:
            w, x, y, z = quaternion_from_matrix(T[:3, :3])
            tum.append(f'{stamp // 10 ** 9}.{stamp % 10 ** 9:09d} '
                       + ' '.join(f'{value:.6f}' for value in (*T[:3, 3], x, y, z, w)))
            kitti.append(' '.join(f'{value:.9e}' for value in T[:3].ravel()))
        for form, lines in (('tum', tum), ('kitti', kitti)):
            write_atomically(folder / f'trajectory_{form}{suffix}.txt',
                             ('\n'.join(lines) + '\n').encode())
