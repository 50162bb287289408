# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files of optical flow and pairs of images, against numbers written by hand."""

import struct

import cv2
import numpy as np
import pytest

from geo_perception.datasets.flow_files import flo_bytes, kitti_flow_bytes, read_flow
from geo_perception.datasets.flow_pairs import open_flow_pairs, RecordedPairs
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.errors import ImageError, RecordingError
from geo_perception.geometry.camera import Camera


@pytest.fixture
def flow():
    """Return flow with an unknown pixel."""
    flow = np.random.default_rng(0).uniform(-90, 90, (5, 7, 2)).astype(np.float32)
    flow[2, 3] = np.nan
    return flow


def test_flo_is_unquantised(tmp_path, flow):
    """There and back, with the header of the format."""
    (tmp_path / 'a.flo').write_bytes(flo_bytes(flow))
    data = (tmp_path / 'a.flo').read_bytes()
    assert data[:4] == b'PIEH' and struct.unpack('<ii', data[4:12]) == (7, 5)
    assert struct.unpack('<ff', data[12:20]) == tuple(flow[0, 0])   # u, then v, of one pixel
    np.testing.assert_array_equal(read_flow(tmp_path / 'a.flo'), flow)


def test_png_as_kitti_writes_it(tmp_path):
    """R is u, G is v, B says whether (development kit)."""
    picture = np.zeros((2, 3, 3), np.uint16)
    picture[0, 1] = 1, 32768 - 96, 32768 + 160   # OpenCV's order: valid, v, u
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    found = read_flow(tmp_path / 'a.png')
    assert found[0, 1].tolist() == [2.5, -1.5]
    assert np.isnan(found).all(-1).sum() == 5


def test_png_there_and_back(tmp_path, flow):
    """To a 128th of a pixel; what does not fit is unknown."""
    flow[0, 0] = 600, 0
    (tmp_path / 'a.png').write_bytes(kitti_flow_bytes(flow))
    found = read_flow(tmp_path / 'a.png')
    assert np.isnan(found[0, 0]).all() and np.isnan(found[2, 3]).all()
    flow[0, 0] = np.nan
    np.testing.assert_allclose(found, flow, atol=1 / 128 + 1e-5)


def test_flow_without_a_known_pixel(tmp_path):
    """It is read as what it is: nothing known."""
    nothing = np.full((4, 6, 2), np.nan, np.float32)
    for name, content in (('a.flo', flo_bytes(nothing)), ('a.png', kitti_flow_bytes(nothing))):
        (tmp_path / name).write_bytes(content)
        found = read_flow(tmp_path / name)
        assert found.shape == (4, 6, 2) and np.isnan(found).all()


@pytest.mark.parametrize('name, content, words', [
    ('a.flo', b'PIEH', 'does not begin'), ('a.flo', b'P6 3 4 255' + bytes(36), 'does not begin'),
    ('a.flo', struct.pack('<fii', 202021.25, 3, 4) + bytes(95), 'takes 108 bytes, it has 107'),
    ('a.flo', struct.pack('<fii', 202021.25, -3, 4), 'does not begin'),
    ('a.png', b'', 'cannot be decoded'),
    ('a.ppm', b'P6 1048577 4 255 ', 'cannot be decoded'),
    ('a.png', cv2.imencode('.png', np.zeros((4, 5, 3), np.uint8))[1].tobytes(), 'uint8'),
    ('a.png', cv2.imencode('.png', np.zeros((4, 5), np.uint16))[1].tobytes(), 'three channels')])
def test_damaged_files(tmp_path, name, content, words):
    """One sentence that names the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        read_flow(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files(tmp_path):
    """Of both kinds."""
    for name in ('a.flo', 'a.png'):
        with pytest.raises(ImageError, match=name):
            read_flow(tmp_path / name)


def picture(seed, size=(375, 1242)):
    """Return an image."""
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


def write(path, array):
    """Write an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array[..., ::-1])


@pytest.fixture
def kitti(tmp_path):
    """Return a folder like KITTI 2015 with two scenes."""
    training = tmp_path / 'training'
    for scene in ('000000', '000001'):
        for time in ('09', '10', '11'):
            write(training / 'image_2' / f'{scene}_{time}.png', picture(int(time)))
        for name, known in (('flow_occ', 600), ('flow_noc', 500)):
            flow = np.full((375, 1242, 2), np.nan)
            flow[:, :known] = 3, -2
            (training / name).mkdir(exist_ok=True)
            (training / name / f'{scene}_10.png').write_bytes(kitti_flow_bytes(flow))
    return tmp_path


def test_kitti_2015(kitti):
    """Target and source, both truths, and the camera by size or from its file."""
    pairs = open_flow_pairs(kitti)
    assert len(pairs) == 2
    pair = pairs[1]
    assert pair.name == '000001'
    np.testing.assert_array_equal(pair.image, picture(10))
    np.testing.assert_array_equal(pair.other, picture(11))
    assert np.isfinite(pair.flow[..., 0]).sum() == 375 * 600 and pair.visible.sum() == 375 * 500
    assert pair.flow[0, 0].tolist() == [3, -2] and pair.camera.K[0, 0] == 721.5377
    calibration = kitti / 'training' / 'calib_cam_to_cam' / '000001.txt'
    calibration.parent.mkdir()
    calibration.write_text('S_rect_02: 1242 375\nP_rect_02: 700 0 600 44 0 700 170 0 0 0 1 0\n')
    assert open_flow_pairs(kitti / 'training')[1].camera.K[0, 0] == 700


def test_flow_of_another_size(kitti):
    """It belongs to another image."""
    path = kitti / 'training' / 'flow_occ' / '000000_10.png'
    path.write_bytes(kitti_flow_bytes(np.zeros((370, 1226, 2))))
    with pytest.raises(ImageError, match='has 1226x370 pixels, .* has 1242x375'):
        open_flow_pairs(kitti)[0]


def test_examples_of_kitti(tmp_path):
    """As they are passed on: side by side in one folder."""
    flow = np.ones((6, 8, 2), np.float32)
    for name in ('000010_10', '000010_11'):
        write(tmp_path / 'kitti' / f'kitti_{name}.png', picture(0, (6, 8)))
    for name in ('occ', 'noc'):
        (tmp_path / 'kitti' / f'kitti_{name}_000010_10.png').write_bytes(kitti_flow_bytes(flow))
    (pair,) = open_flow_pairs(tmp_path / 'kitti')
    assert pair.visible.all() and pair.camera is None and (pair.flow == 1).all()


def test_recordings():
    """Frames with flow, each with its successor; a slice has unknown flow across its gaps."""
    camera = Camera(np.array([[40.0, 0, 23.5], [0, 40, 17.5], [0, 0, 1]]), 48, 36)
    drive = SampleWorld(0, camera).drive('val', 5)
    pairs = RecordedPairs(drive, 'drive')
    assert len(pairs) == 4
    pair, frame = pairs[1], drive[1]
    np.testing.assert_array_equal(pair.flow, frame.flow)
    np.testing.assert_array_equal(pair.other, drive[2].image)
    np.testing.assert_array_equal(pair.motion_mask, frame.motion_mask)
    assert pair.stamps == tuple(drive.stamps[1:3])
    sliced = RecordedPairs(SlicedSequence(drive, [0, 1, 3]), 'slice')
    assert np.isfinite(sliced[0].flow).any() and np.isnan(sliced[1].flow).all()


def test_recordings_without_flow(tmp_path):
    """It says what would do."""
    for i in range(3):
        write(tmp_path / f'{i}.png', picture(i, (6, 8)))
    with pytest.raises(RecordingError, match='no true optical flow; take KITTI 2015'):
        open_flow_pairs(tmp_path)
