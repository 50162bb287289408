# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the verbs write with a model for depth from stereo pairs."""

from pathlib import Path

import numpy as np

from geo_perception.commands.geometry_output import (
    clear_earlier_results, depth_row, depths_in_words, failed_row, write_camera, write_depth,
    write_table)
from geo_perception.commands.outcome import kept_when_interrupted
from geo_perception.errors import ImageError, RecordingError
from geo_perception.progress import track


def write_stereo_depth(pipeline, sequence, output):
    """
    Run a pipeline over images and write their depth.

    Files: ``depth_png/`` (16 bits, millimetres, 0 = unknown or beyond 65.5 m; only where the
    intrinsics are known), ``depth_npy/`` (float32, NaN = unknown), ``preview/``, ``frames.csv``
    and ``camera.json`` (of the depth images).

    Parameters
    ----------
    pipeline : StereoDepthPipeline
        What is run.
    sequence : Sequence
        Images.
    output : str or pathlib.Path
        Folder; it is created. What an earlier run left in it is replaced.

    Returns
    -------
    dict
        What was written, in numbers and sentences.

    Raises
    ------
    OutputError
        When the folder cannot be written.

    """
    folder, rows, camera, warnings = Path(output), [], None, []
    counts = {'images': len(sequence), 'depth': 0, 'metric': 0, 'failed': 0}
    clear_earlier_results(folder)

    def finish():
        write_table(folder / 'frames.csv', rows)
        if camera is not None:
            write_camera(folder / 'camera.json', camera)

    def keep():
        if not rows:
            return
        finish()
        print(f'stopped after {len(rows)} of {len(sequence)} images; they are in {output}')

    with kept_when_interrupted(keep):
        for i in track(range(len(sequence)), 'Depth'):
            try:
                frame = sequence[i]
                estimate = pipeline(frame.image, frame.camera)
            except (ImageError, RecordingError) as error:
                counts['failed'] += 1
                rows.append(failed_row(i, int(sequence.stamps[i]), error))
                continue
            camera = estimate.camera or camera
            if np.isfinite(estimate.depth).any():
                counts['depth'] += 1
                counts['metric'] += estimate.metric
                write_depth(folder, f'{i:06d}', estimate, frame.image)
            if estimate.warning and estimate.warning not in warnings:
                warnings.append(estimate.warning)
            rows.append({**depth_row(i, frame, estimate), 'warning': estimate.warning})
    finish()
    return {**counts, 'output': str(output), 'baseline': pipeline.baseline, 'warnings': warnings}


def summary_sentence(summary):
    """
    Return what was written, for a person.

    Parameters
    ----------
    summary : dict
        From `write_stereo_depth`.

    Returns
    -------
    str
        Lines.

    """
    lines = [f"{summary['images']} images: {depths_in_words(summary)}, "
             f"{summary['failed']} unreadable; wrote {summary['output']}"]
    if not summary['metric']:
        lines.append('These images have no intrinsics, and depth is metric for known focal '
                     'lengths only; record camera_info beside the images.')
    return '\n'.join([*lines, *summary['warnings']])
