# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a calibration message has to say before it is believed."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from geo_perception.errors import CalibrationError
from geo_perception.model_file import TrainingCamera
from geo_perception.ros.calibration import CalibrationCheck, CameraInfoInput, checked_camera


def message(**changes):
    """Return the calibration of a raw camera of 640x480."""
    info = CameraInfo(width=640, height=480, distortion_model='plumb_bob',
                      d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    info.header.frame_id = 'camera'
    info.k = np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1])
    info.p = np.array([400.0, 0, 330, 0, 0, 410, 250, 0, 0, 0, 1, 0])
    for name, value in changes.items():
        if isinstance(value, tuple):
            index, number = value
            getattr(info, name)[index] = number
        else:
            setattr(info, name, value)
    return info


def test_a_raw_image_has_K_and_distortion_a_rectified_one_P():
    """Never a mixture."""
    raw, rectified = checked_camera(message()), checked_camera(message(), rectified=True)
    assert (raw.K[0, 0], raw.K[1, 2], raw.distortion[0]) == (500, 240, -0.3)
    assert (rectified.K[0, 0], rectified.K[1, 2]) == (400, 250)
    assert not rectified.distortion.any()
    assert (raw.width, raw.height, raw.frame_id) == (640, 480, 'camera')


PINHOLE = {'d': [0.0] * 5}
FISHEYE = {'d': [0.0] * 4, 'distortion_model': 'equidistant'}


@pytest.mark.parametrize('rectified, topic, lens, sentence', [
    (True, '/camera/image_raw', {}, 'rectified is true, but /camera/image_raw is not called so'),
    (True, '/camera/image_raw', FISHEYE, 'rectified is true, but'),
    (False, '/camera/image_rect/compressed', {}, 'is called so; set rectified: true'),
    (False, '/camera/image_rect', FISHEYE, 'is called so; set rectified: true'),
    (False, '/camera/image_raw', {}, ''), (True, '/camera/image_rect', {}, ''),
    (False, '/camera/image_rect', PINHOLE, ''),
    (False, '/camera/image_rect', {'d': [0.1, 0.2]}, ''),
    (False, '/camera/image_rect', {'width': 0, 'binning_x': 2}, '')])
def test_topic_that_is_called_otherwise_than_said(graph, rectified, topic, lens, sentence):
    """A camera without distortion is both; one that is refused is neither."""
    calibration = CameraInfoInput(graph.peer, ['/camera/camera_info'], rectified)
    assert calibration.doubt(topic, 'camera') == ''
    calibration._on_info(message(**lens))
    doubt = calibration.doubt(topic, 'camera')
    assert (sentence in doubt) if sentence else not doubt


def test_calibration_without_a_frame_is_doubted_not_refused(graph):
    """In the same words by all nodes, after what is worse, and once the camera is known."""
    needed = CameraInfoInput(graph.peer, ['/camera/camera_info'])
    check = CalibrationCheck(graph.peer, ['/camera/camera_info'])
    trained = TrainingCamera(640, 480, 500.0, 510.0, 320.0, 240.0)
    named, nameless = message(), message()
    nameless.header.frame_id = ''
    for info, doubtful in ((named, False), (nameless, True)):
        for calibration in (needed, check._input):
            calibration._on_info(info)
        assert needed.camera_of_image(640, 480, ('camera', 'camera'), 0).width == 640
        doubt = needed.doubt('/camera/image_raw', 'camera')
        assert ("no frame_id and may be of another camera than 'camera'" in doubt) == doubtful
        assert check.problem(('camera', 'camera'), trained) == doubt
        assert check.problem(('camera', 'camera'), None) == doubt
        assert not needed.doubt('/camera/image_raw', '') and not check.problem((), trained)
    assert 'is called so' in needed.doubt('/camera/image_rect', 'camera')
    other = TrainingCamera(640, 480, 400.0, 400.0, 320.0, 240.0)
    assert 'field of view' in check.problem(('camera', 'camera'), other)


def test_calibration_may_be_in_the_frame_of_the_image_or_in_that_of_the_camera(graph):
    """Where a parameter names another frame than the driver does."""
    check = CalibrationCheck(graph.peer, ['/camera/camera_info'])
    check._input._on_info(message())
    for frames in (('camera', 'optical'), ('driver', 'camera')):
        assert not check.problem(frames, None)
        assert check._input.camera_of_image(640, 480, frames, 0).frame_id == 'camera'
    sentence = "camera_info is for 'camera', but the image is of 'optical'"
    assert sentence in check.problem(('driver', 'optical'), None)
    with pytest.raises(CalibrationError, match=sentence):
        check._input.camera_of_image(640, 480, ('driver', 'optical'), 0)


def test_field_of_view_is_that_of_the_shorter_side(graph):
    """Which is what the network is given, however the camera is mounted."""
    check = CalibrationCheck(graph.peer, ['/camera/camera_info'])
    trained = TrainingCamera(640, 480, 500.0, 510.0, 320.0, 240.0)
    for focal, differs in ((510.0, False), (400.0, True)):
        check._input._on_info(message())
        assert not check.problem(('camera',), trained)
        check._input._on_info(message(width=480, height=640, k=np.array(
            [focal, 0, 240, 0, 500, 320, 0, 0, 1])))
        assert ('field of view' in check.problem(('camera',), trained)) == differs


def test_binning_and_region_of_interest_are_followed():
    """The size in the message is that of the calibration, not of the image."""
    camera = checked_camera(message(binning_x=2, binning_y=2))
    assert (camera.width, camera.height, camera.K[0, 0]) == (320, 240, 250)
    camera = checked_camera(message(
        roi=RegionOfInterest(x_offset=100, y_offset=50, width=200, height=100)))
    assert (camera.width, camera.height) == (200, 100)
    assert camera.K[:2, 2] == pytest.approx([220, 190])


@pytest.mark.parametrize('change, rectified, sentence', [
    ({'k': (0, 0.0)}, False, 'uncalibrated camera: its focal length is 0.0'),
    ({'width': 0}, False, 'its size 0x480'),
    ({'k': (0, 5.0)}, False, 'K of camera_info cannot be'),
    ({'k': (0, 1e6)}, False, 'cannot be that of an image of 640x480 pixels'),
    ({'k': (4, 20.0)}, False, 'cannot be'),
    ({'k': (4, -500.0)}, False, 'uncalibrated'),
    ({'k': (2, 0.0)}, False, 'cannot be'),
    ({'k': (5, 900.0)}, False, 'cannot be'),
    ({'k': (8, 0.0)}, False, 'cannot be'),
    ({'k': (1, np.nan)}, False, 'cannot be'),
    ({'p': (0, 0.0)}, True, 'matrix P of camera_info is zero'),
    ({'p': (2, 5000.0)}, True, 'P of camera_info cannot be'),
    ({'distortion_model': 'fov'}, False, "camera_info cannot be right: .* 'fov'; known are plumb"),
    ({'d': [0.1, 0.2]}, False, "2 coefficients of the distortion model 'plumb_bob'"),
    ({'d': [0.1, np.inf, 0.0, 0.0, 0.0]}, False, 'an infinite number'),
    ({'roi': RegionOfInterest(width=2, height=2)}, False, 'principal point')])
def test_absurd_numbers_are_one_sentence(change, rectified, sentence):
    """Zero, far off, of the wrong kind."""
    with pytest.raises(CalibrationError, match=sentence) as caught:
        checked_camera(message(**change), rectified)
    assert '\n' not in str(caught.value)


def test_what_is_not_used_may_be_absurd():
    """A driver of rectified images need not fill in K, and no distortion has no model."""
    assert checked_camera(message(p=(0, 0.0))).K[0, 0] == 500
    assert checked_camera(message(d=[], distortion_model='')).K[0, 0] == 500
    assert checked_camera(message(distortion_model='fov'), rectified=True).K[0, 0] == 400
