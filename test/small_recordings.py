# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One camera, recorded in every format that has poses."""

import cv2
import numpy as np
import pytest

from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_recording
from geo_perception.errors import RecordingError
from geo_perception.geometry.se3 import (
    interpolate_transform, make_transform, matrix_from_rotation_vector, quaternion_from_matrix)

N = 6
HEADER = 'Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n'


def pose(i):
    """Return where the camera is; no axis is special."""
    return make_transform(matrix_from_rotation_vector([0.3 + 0.1 * i, -1.1, 0.2 * i]),
                          [1.0 + i, 2.0 - 0.5 * i, 0.3 * i])


POSES = np.stack([pose(i) for i in range(N)])


def picture(i):
    """Return an RGB image that tells its number."""
    return np.full((24, 32, 3), [10 * i, 100, 255 - 10 * i], np.uint8)


def write_image(path, rgb):
    """Write a colour or grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)


def label_line(name, T, world_to_camera=True, scale=1.0):
    """Return a line in PoseNet's text format."""
    R = T[:3, :3].T if world_to_camera else T[:3, :3]
    numbers = [*T[:3, 3], *(scale * quaternion_from_matrix(R))]
    return ' '.join([name, *(f'{x:.9f}' for x in numbers)])


def write_seven_scenes(root, sequence='', count=N):
    """Write frames of 7-Scenes."""
    folder = root / sequence
    for i in range(count):
        write_image(folder / f'frame-{i:06d}.color.png', picture(i))
        depth = np.full((24, 32), 1500, np.uint16)
        depth[0, :2] = 0, 65535
        write_image(folder / f'frame-{i:06d}.depth.png', depth)
        rows = '\n'.join('\t'.join(f' {x:.10e}' for x in row) for row in pose(i))
        (folder / f'frame-{i:06d}.pose.txt').write_text(rows + '\n')
    return root


def write_tum(root):
    """Write a TUM RGB-D recording; ground truth at twice the rate, quaternion w last."""
    root.mkdir()
    rgb, depth, truth = ['# color images'], ['# depth maps'], ['# timestamp tx ty tz qx qy qz qw']
    for i in range(N):
        time = 1305031102.175304 + i / 30
        write_image(root / f'rgb/{i}.png', picture(i))
        write_image(root / f'depth/{i}.png', np.full((24, 32), 7500, np.uint16))
        rgb.append(f'{time:.6f} rgb/{i}.png')
        depth.append(f'{time + 0.004:.6f} depth/{i}.png')
    for k in range(-1, 2 * N):
        T = interpolate_transform(pose(k // 2), pose(k // 2 + 1), 0.5) if k % 2 else pose(k // 2)
        w, x, y, z = quaternion_from_matrix(T[:3, :3])
        numbers = [*T[:3, 3], x, y, z, w]
        truth.append(f'{1305031102.175304 + k / 60:.6f} '
                     + ' '.join(f'{value:.8f}' for value in numbers))
    for name, lines in (('rgb', rgb), ('depth', depth), ('groundtruth', truth)):
        (root / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    return root


def write_cambridge(root, name='dataset_train.txt', lines=None, **how):
    """Write a list and its images."""
    lines = lines or [label_line(f'seq1/frame{i:05d}.png', pose(i), **how) for i in range(N)]
    for line in lines:
        if line.strip():
            write_image(root / line.split()[0].lstrip('/'), picture(int(line.split()[0][-5])))
    (root / name).write_text(HEADER + '\n'.join(lines) + '\n')
    return root


def write_kitti(root, colour=False):
    """Write sequence 00 in KITTI's folders."""
    folder = root / 'sequences' / '00'
    left, right = ('image_2', 'image_3') if colour else ('image_0', 'image_1')
    for i in range(N):
        write_image(folder / left / f'{i:06d}.png', picture(i) if colour else picture(i)[..., 0])
        write_image(folder / right / f'{i:06d}.png', 7 + (picture(i) if colour
                                                          else picture(i)[..., 0]))
    K = np.array([[20.0, 0, 16], [0, 20.0, 12], [0, 0, 1]])
    offsets = {'P0': 0.0, 'P1': -0.54, 'P2': 0.06, 'P3': -0.48}
    (folder / 'calib.txt').write_text('\n'.join(
        f'{name}: ' + ' '.join(f'{x:.9e}' for x in (
            K @ np.hstack([np.eye(3), [[b], [0], [0]]])).reshape(-1))
        for name, b in offsets.items()) + '\n')
    (folder / 'times.txt').write_text('\n'.join(f'{0.1037 * i:e}' for i in range(N)) + '\n')
    (root / 'poses').mkdir()
    (root / 'poses' / '00.txt').write_text('\n'.join(
        ' '.join(f'{x:.9e}' for x in T[:3].reshape(-1)) for T in POSES))
    return root


def write_bag(path):
    """Write a bag of images and poses."""
    with BagWriter(path) as bag:
        for i in range(N):
            bag.image('/camera/image_raw', 10**9 * (i + 1), 'camera', picture(i), 'rgb8')
            bag.pose('/pose', 10**9 * (i + 1), 'map', pose(i))
    return path


def refused(words, spec, **options):
    """Assert that a recording is refused in one sentence that holds all the words."""
    with pytest.raises(RecordingError) as caught:
        open_recording(spec, **options)
    assert '\n' not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)
