# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception infer``: run a model over images and keep the answers."""

from typing import Optional


def infer(model: str, images: str, *, output: str, json: Optional[str] = None,
          image_topic: Optional[str] = None, device: str = 'auto', precision: str = 'auto',
          samples: int = 40, threads: int = 0, dense: bool = False):
    """
    Relocalize images and write their poses to a CSV file.

    One row an image: name, stamp (ns), x y z (metres), qw qx qy qz, standard deviations (metres,
    radians), score 0..1, accepted (0 or 1) and the reason if not. An image that cannot be
    decoded gets a row with the reason and no pose.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    images : str
        Image, folder of images, video or recording, with an optional slice: ``drive[::10]``.
    output : str
        CSV file to write.
    json : str, optional
        Write a summary to this file.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    precision : str
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    samples : int
        Monte-Carlo samples for the covariance; 0 for none.
    threads : int
        CPU threads of the network; 0 leaves it to the engine.
    dense : bool
        Average 128 crops of each image (Kendall 2015); slow.

    Returns
    -------
    dict
        ``images``, ``accepted``, ``refused``, ``failed`` and ``output``.

    """
    import csv
    import io

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.recording import open_images
    from geo_perception.errors import ImageError, RecordingError
    from geo_perception.inference.relocalizer import Relocalizer
    from geo_perception.model_file import write_atomically
    from geo_perception.progress import track

    sequence = open_images(images, image_topic=image_topic)
    relocalizer = Relocalizer.load(model, device=device, precision=precision, samples=samples,
                                   threads=threads)
    counts = {'images': len(sequence), 'accepted': 0, 'refused': 0, 'failed': 0}
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(['name', 'stamp_ns', 'x', 'y', 'z', 'qw', 'qx', 'qy', 'qz',
                     *(f'sigma_{axis}' for axis in ('x', 'y', 'z', 'rot_x', 'rot_y', 'rot_z')),
                     'score', 'accepted', 'reason'])
    stamps = sequence.stamps
    for i in track(range(len(sequence)), 'Relocalizing'):
        try:
            frame = sequence[i]
            fix = relocalizer.dense(frame.image) if dense else relocalizer(frame.image)
        except (ImageError, RecordingError) as error:
            counts['failed'] += 1
            writer.writerow([f'frame {i}', stamps[i]] + [''] * 14 + [0, str(error)])
            continue
        counts['accepted' if fix.accepted else 'refused'] += 1
        writer.writerow([frame.name, stamps[i], *_pose_cells(fix), f'{fix.score:.3f}',
                         int(fix.accepted), fix.reason])
    write_atomically(output, table.getvalue().encode())
    print(f"{counts['images']} images: {counts['accepted']} accepted, {counts['refused']} "
          f"refused, {counts['failed']} unreadable; wrote {output}")
    summary = {**counts, 'output': output, 'world_frame': relocalizer.world_frame}
    write_outcome(json, summary)
    return summary


def _pose_cells(fix):
    """Return position, quaternion and standard deviations as text."""
    import numpy as np

    from geo_perception.geometry.se3 import quaternion_from_matrix

    T = fix.T_world_camera
    numbers = np.concatenate([T[:3, 3], quaternion_from_matrix(T[:3, :3]),
                              np.sqrt(np.diag(fix.covariance))])
    return [f'{number:.6f}' for number in numbers]
