# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Folders of images with a file of intrinsics, with depth beside them, and Cityscapes."""

import numpy as np
from public_trees import picture, write_cityscapes, write_image
import pytest

from geo_perception.datasets.camera_files import checked_camera
from geo_perception.datasets.recording import open_images
from geo_perception.datasets.snippets import consecutive_snippets
from geo_perception.errors import RecordingError

SIZE = (64, 48)
K = '60.5 0 31.25\n0 61 23.5\n0 0 1\n'
YAML = """image_width: {width}
image_height: {height}
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [60.5, 0.0, 31.25, 0.0, 61.0, 23.5, 0.0, 0.0, 1.0]
distortion_model: {model}
distortion_coefficients:
  rows: 1
  cols: 5
  data: [{distortion}]
rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}
"""


def write_folder(folder, name=None, text=None, n=3):
    """Write images and perhaps a file beside them."""
    for i in range(n):
        write_image(folder / f'{i}.png', picture(i, SIZE))
    if name:
        (folder / name).write_text(text)
    return folder


def ros_yaml(width=64, height=48, model='plumb_bob', distortion='0.1, -0.2, 0.001, 0.002, 0.0'):
    """Return what ROS's camera calibration writes."""
    return YAML.format(width=width, height=height, model=model, distortion=distortion)


@pytest.mark.parametrize('name, text', [
    ('cam.txt', K), ('cam.txt', '60.5,0.,31.25,0.,61,23.5,0.,0.,1.'), ('camera.yaml', ros_yaml()),
    ('ost.yaml', ros_yaml())])
def test_intrinsics_beside_images(tmp_path, name, text):
    """Nine numbers, or a calibration of ROS with its distortion; a nominal 30 Hz."""
    sequence = open_images(write_folder(tmp_path, name, text))
    camera = sequence[2].camera
    np.testing.assert_allclose(camera.K, [[60.5, 0, 31.25], [0, 61, 23.5], [0, 0, 1]])
    assert (camera.width, camera.height) == SIZE
    assert camera.distortion.tolist() == ([0.1, -0.2, 0.001, 0.002, 0.0] if 'yaml' in name else [])
    assert sequence.stamps.tolist() == [0, 33333333, 66666667] and sequence.poses is None


def test_calibration_at_another_size(tmp_path):
    """Of the same shape: rescaled; the fisheye model has another name in OpenCV's world."""
    text = ros_yaml(128, 96, 'fisheye', '0.1, 0.2, 0.3, 0.4')
    camera = open_images(write_folder(tmp_path, 'camera.yaml', text))[0].camera
    assert camera.K[0, 0] == 60.5 / 2 and camera.K[0, 2] == (31.25 + 0.5) / 2 - 0.5
    assert camera.distortion_model == 'equidistant'


@pytest.mark.parametrize('name, text, words', [
    ('cam.txt', K[:-3], 'cam.txt holds 8 numbers, 9 are expected'),
    ('cam.txt', 'focal length 60', 'cam.txt cannot be read as numbers'),
    ('cam.txt', K.replace('60.5', '0'), 'focal lengths are 0 and 61'),
    ('cam.txt', K.replace('61', '-61'), 'focal lengths are 60.5 and -61'),
    ('cam.txt', K.replace('60.5', 'nan'), 'NaN'),
    ('cam.txt', '0.58 0 0.5 0 1.92 0.5 0 0 1', 'far too small for 64x48.*parts of the image'),
    ('cam.txt', K.replace('31.25', '131'), r'principal point \(131, 23.5\) is far outside'),
    ('cam.txt', K.replace('23.5', '-49'), r'principal point \(31.25, -49\) is far outside'),
    ('cam.txt', '60 0 0 0 60 0 31 23 1', 'rows of K'),
    ('camera.yaml', ros_yaml(64, 36), 'for images of 64x36 pixels, those in .* have 64x48'),
    ('camera.yaml', ros_yaml(distortion='1, 2, 3'), "3 coefficients of .* 'plumb_bob'"),
    ('camera.yaml', ros_yaml(model='pinhole'), "'pinhole'; known are plumb_bob"),
    ('camera.yaml', '{', 'camera.yaml is no calibration as ROS writes it'),
    ('camera.yaml', '[1, 2]', 'no calibration'), ('camera.yaml', '', 'no calibration'),
    ('camera.yaml', ros_yaml().replace('60.5', 'many'), 'no calibration'),
    ('camera.yaml', ros_yaml('0', '0'), '0x0')])
def test_intrinsics_that_cannot_be_right(tmp_path, name, text, words):
    """One sentence that names the file."""
    write_folder(tmp_path, name, text)
    with pytest.raises(RecordingError, match=words) as caught:
        open_images(tmp_path)
    assert '\n' not in str(caught.value) and name in str(caught.value)


def test_odd_but_possible_intrinsics():
    """The centre of a crop lies outside of it, long lenses and fish eyes exist."""
    for f, cx in ((60, -60), (60, 120), (2000, 32), (15, 32)):
        checked_camera([[f, 0.5, cx], [0, f, 24], [0, 0, 1]], *SIZE, 'test')


def write_depth(path, value=2560):
    """Write a depth image with a hole."""
    depth = np.full(SIZE[::-1], value, np.uint16)
    depth[0, 0] = 0
    write_image(path, depth)


def test_images_with_annotated_depth(tmp_path, caplog):
    """Value / 256 metres; some images have none."""
    write_folder(tmp_path / 'rgb')
    for i in (0, 2):
        write_depth(tmp_path / f'depth/{i}.png')
    sequence = open_images(tmp_path)
    assert sequence[0].depth[1, 1] == 10 and np.isnan(sequence[0].depth[0, 0])
    assert sequence[1].depth is None and sequence[0].camera is None
    assert 'no intrinsics; write them to cam.txt' in caplog.text
    assert (np.diff(sequence.stamps) >= 10**10).all()
    (tmp_path / 'cam.txt').write_text(K)
    assert open_images(tmp_path)[1].camera.K[0, 0] == 60.5
    for file in (tmp_path / 'depth').iterdir():
        file.unlink()
    with pytest.raises(RecordingError, match='none of the 3 images'):
        open_images(tmp_path)


def test_size_tells_the_camera_of_kitti(tmp_path, caplog):
    """And it is said."""
    write_image(tmp_path / 'rgb/0.png', np.zeros((375, 1242, 3), np.uint8))
    write_depth(tmp_path / 'depth/0.png')
    assert open_images(tmp_path)[0].camera.K[0, 2] == 609.5593
    assert '1242x375 pixels are taken as those of KITTI' in caplog.text


def test_selection_for_validation(tmp_path):
    """Names and intrinsics as the depth benchmark has them."""
    for i in range(2):
        name = f'2011_09_26_drive_0002_sync_image_{i:010d}_image_02'
        write_image(tmp_path / f'image/{name}.png', picture(i, SIZE))
        write_depth(tmp_path / f'groundtruth_depth/{name.replace("image", "groundtruth_depth", 1)}'
                    '.png', 256 * (i + 1))
        (tmp_path / 'intrinsics').mkdir(exist_ok=True)
        (tmp_path / f'intrinsics/{name}.txt').write_text(K.replace('60.5', str(60 + i)))
    sequence = open_images(tmp_path)
    for i in range(2):
        assert sequence[i].depth[1, 1] == i + 1 and sequence[i].camera.K[0, 0] == 60 + i


def test_cityscapes(tmp_path, caplog):
    """Each video has its camera; no snippet joins two of them."""
    city = write_cityscapes(tmp_path)
    write_cityscapes(tmp_path, 'ulm', 1)
    sequence = open_images(city.parent)
    assert len(sequence) == 21
    frame = sequence[8]
    assert frame.name.endswith('aachen_000001_000001_leftImg8bit.png')
    np.testing.assert_allclose(frame.camera.K, [[451, 0, 209.5], [0, 452, 101.5], [0, 0, 1]])
    snippets = consecutive_snippets(sequence.stamps, 3, 2)
    assert len(snippets) == 3 * 3
    assert all(a // 7 == c // 7 for a, _, c in snippets)
    assert not caplog.text
    file = next((tmp_path / 'camera/train/ulm').iterdir())
    file.write_text('{"intrinsic": {"fx": 3}}')
    with pytest.raises(RecordingError, match='no camera file of Cityscapes'):
        open_images(city.parent)
    file.unlink()
    assert open_images(city.parent)[20].camera is None
    assert '7 of 21 frames have no intrinsics' in caplog.text
    assert len(open_images(city)) == 14
