# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A bad day of the camera and its calibration, see `field_day`."""

import time

from field_day import (
    ALL, BOTH, CAMERA, fault, other_eye, PACE, scenery, SECOND, STEP, WELL)
import numpy as np
import pytest
from ros_harness import picture_message
from sensor_msgs.msg import CameraInfo, Image

from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import (
    camera_info_message, image_message, matrix_from_pose)

pytestmark = pytest.mark.usefixtures('without_openvino')


# Camera


@fault('Camera', 'It drops from 10 to 2 Hz.', *BOTH)
def test_two_images_a_second(day):
    day.start().settle()
    stamps = [day.send(step=0.5) for _ in range(4)]
    if day.name == 'relocalize':
        day.wait_for(*stamps)
        day.says(OK, WELL, send=lambda: day.send(step=0.5))
        day.publishes('one pose an image')
    else:
        day.wait_for(*stamps, topic='depth')
        # The first one may be the end of a gap; with the second that is known to be usual.
        day.wait_for(*stamps[1:], topic='odometry')
        day.says(WARN, 'frames are 0.50 s apart, the network was trained on 0.10 s: motion is '
                       'larger than any that it knows', send=lambda: day.send(step=0.5))
        day.publishes('depth with each image; odometry from the second slow image on, goes on '
                      'from the last pose')
    day.recovers()


@fault('Camera', 'It freezes: one image, stamp and all, again and again.', *ALL)
def test_one_image_again_and_again(day):
    day.start().settle()
    last = day.send()
    for _ in range(10):
        day.send(step=0)
    day.wait_for(last)
    day.says(WARN, 'Images arrive but nothing is published: the image of … s came again; the '
                   'camera is frozen, or its driver sends each image several times: restart it.',
             send=lambda: day.send(step=0))
    day.publishes('nothing')
    day.recovers()


@fault('Camera', 'It freezes: new stamps on one picture.', *ALL)
def test_one_picture_again_and_again(day):
    day.start().settle()
    picture = scenery()[0]
    stamps = [day.send(picture=picture) for _ in range(25)]
    day.wait_for(*stamps)
    if day.name == 'geometry':
        poses = [matrix_from_pose(message.pose.pose)
                 for message in day.heard['/geometry/odometry'][-20:]]
        assert np.ptp(poses, axis=0) == pytest.approx(0)
    day.says(WARN, 'The picture has not changed in a single pixel for … s, so the camera is '
                   'frozen: restart its driver.')
    same = {'relocalize': 'the same pose', 'geometry': 'the robot stands',
            'stereo_depth': 'the same depth'}[day.name]
    day.publishes(f'everything; {same}, as in a simulation at rest, where (`use_sim_time`) '
                  'nothing is said')
    day.recovers()


@fault('Camera', 'It sends each image twice.', *BOTH)
def test_each_image_twice(day):
    day.start().settle()
    stamps = []
    for _ in range(5):
        stamps.append(day.send())
        day.send(step=0)
    day.wait_for(*stamps)

    def twice():
        day.send()
        day.send(step=0)

    day.says(OK, WELL, send=twice)
    day.publishes('each image once')
    day.recovers()


@fault('Camera', 'Images overtake each other.', *BOTH)
def test_images_out_of_order(day):
    day.start().settle()
    stamps = []
    for _ in range(4):
        stamps.append(day.send(step=2 * STEP))
        day.send(stamp=day.now - round(STEP * SECOND))
        day.send(stamp=day.now - round(2.5 * STEP * SECOND))
    day.wait_for(*stamps)

    def disorder():
        day.send(step=2 * STEP)
        for late in (1, 2.5, 4):
            day.send(stamp=day.now - round(late * STEP * SECOND))

    day.says(WARN, '{verb} at … Hz from images at … Hz; … of the last … images gave no result: an '
                   'image came … s after a newer one; let one node only publish the images, over '
                   'a network that keeps their order.', send=disorder)
    day.publishes('all but those that come after a newer one; odometry does not begin anew'
                  if day.name == 'geometry' else 'all but those that come after a newer one')
    if day.name == 'geometry':
        assert day.node._resets == 0
    day.recovers()


@fault('Camera', 'Images come 3 s late.', *BOTH)
def test_old_images(day):
    day.now = time.time_ns()
    day.start().settle()
    day.now = time.time_ns() - 3 * SECOND
    day.node.trigger_deactivate()     # so that the clock seems to have been wrong all the time
    day.node.trigger_activate()
    day.graph.spin_until(lambda: day.camera.get_subscription_count()
                         and day.infos.get_subscription_count())
    day.mark()
    stamps = [day.send(step=PACE) for _ in range(3)]
    if day.name == 'relocalize':
        day.wait_for(*stamps)
    else:
        day.wait_for(*stamps, topic='depth')
    day.says(WARN, 'Images arrive … s after they were taken: the network is slow (send compressed '
                   'images), or the clocks of camera and robot differ (synchronise them).',
             send=lambda: day.send(step=PACE))
    day.publishes('everything, with the stamps of the images')
    day.now = time.time_ns()
    day.recovers()


@fault('Camera', 'Its clock is 3 s ahead.', *BOTH)
def test_images_of_the_future(day):
    day.now = time.time_ns() + 3 * SECOND
    day.start()
    day.mark()
    stamps = [day.send(step=PACE) for _ in range(3)]
    day.wait_for(*stamps, topic='depth' if day.name == 'geometry' else '')
    day.says(WARN, 'Images are stamped … s ahead of the clock: synchronise the clocks of camera '
                   'and robot.', send=lambda: day.send(step=PACE))
    day.publishes('everything, with the stamps of the images')
    day.now = time.time_ns()
    day.recovers()


@fault('Camera', 'It turns dark.', *ALL)
def test_a_covered_lens(day):
    day.start().settle()
    black = np.zeros_like(scenery()[0])
    for _ in range(3):
        day.send(picture=black)
    day.wait_for()
    why = 'the image looks like no training image (score …, gate …).' \
        if day.name == 'relocalize' else \
        'the image is black or blank: the lens is covered, or it is dark.'
    day.says(WARN, f'Images arrive but nothing is published: {why}',
             send=lambda: day.send(picture=black))
    day.publishes('nothing; then odometry goes on, with a larger covariance'
                  if day.name == 'geometry' else 'nothing')
    day.recovers()


@fault('Camera', 'It is unplugged, or its driver crashes; it comes back.', *ALL)
def test_a_camera_that_comes_back(day):
    day.start().settle()
    day.unplug()
    day.says(ERROR, 'No image for … s: nobody publishes /image; no camera image is published at '
                    'all; start the camera, or give both sides the same ROS_DOMAIN_ID.')
    day.wait_for()
    day.publishes('nothing')
    day.plug_in()
    day.now += 10 * SECOND
    day.recovers()


@fault('Camera', 'Its driver hangs.', *BOTH)
def test_a_silent_camera(day):
    day.start().settle()
    day.says(ERROR, 'No image for … s: … publishes /image, but nothing arrives: it is idle, or '
                    'its images are too large for the shared memory of the middleware (start it '
                    'with FASTRTPS_DEFAULT_PROFILES_FILE=fastdds_large_images.xml).')
    day.wait_for()
    day.publishes('nothing')
    day.recovers()


@fault('Camera', 'Its images are damaged.', *ALL)
def test_damaged_images(day):
    day.start().settle()

    def damaged():
        message = picture_message(day.now + SECOND // 10, frame_id=CAMERA.frame_id)
        message.data = message.data[:100]
        day.send(message=message)

    for _ in range(3):
        damaged()
    day.wait_for()
    day.says(ERROR, "Images arrive but none can be used: an image of encoding 'rgb8', …, step …, "
                    '100 bytes is too short: it takes … bytes.', send=damaged)
    day.publishes('nothing')
    day.recovers()


# Calibration


@fault('Calibration', 'camera_info comes no more.', *BOTH)
def test_calibration_that_stops(day):
    day.start().settle()
    day.info = None
    stamps = [day.send() for _ in range(3)]
    day.wait_for(*stamps)
    day.says(OK, WELL, send=day.send)
    day.publishes('everything, by the last calibration')
    day.info = CAMERA
    day.recovers()


@fault('Calibration', 'camera_info becomes zero.', *ALL)
def test_calibration_that_is_lost(day):
    day.start().settle()

    def send():
        return day.send(info=CameraInfo(header=camera_info_message(
            day.now, CAMERA.frame_id, CAMERA).header))

    stamps = [send() for _ in range(3)]
    words = 'camera_info is of an uncalibrated camera: its focal length is 0.0 and its size 0x0'
    if day.name == 'relocalize':
        day.wait_for(*stamps)
        day.says(WARN, f'{words}.', send=send)
        day.publishes('everything: a model without a place file takes no intrinsics')
    else:
        day.wait_for()
        day.says(ERROR, f'Images arrive but none can be used: {words}.', send=send)
        day.publishes('nothing')
    day.recovers()


@fault('Calibration', 'camera_info never came; then it does.', 'geometry', 'stereo_depth')
def test_calibration_that_never_came(day):
    day.info = None
    day.start()
    day.send()
    day.wait_for()
    day.says(ERROR, 'Images arrive but none can be used: waiting for camera_info: /camera_info is '
                    'published, but nothing has arrived yet.', send=day.send)
    day.publishes('nothing')
    day.info = CAMERA
    day.recovers()


@fault('Calibration', 'Images of another size than camera_info.', 'geometry', 'stereo_depth')
def test_calibration_of_another_size(day):
    day.start().settle()
    small = np.ascontiguousarray(scenery()[0][::2, ::2])
    for _ in range(3):
        day.send(picture=small)
    day.wait_for()
    day.says(ERROR, 'Images arrive but none can be used: camera_info on /camera_info is for 96x64 '
                    'pixels, but the image has 48x32; remap camera_info or publish it scaled.',
             send=lambda: day.send(picture=small))
    day.publishes('nothing')
    day.recovers()


# The other eye


@pytest.fixture
def stereo(day):
    """Return a day of which the right eye has seen something, and the topic of that eye."""
    day.start()
    right = day.graph.advertise(Image, '/right_image')
    day.graph.spin_until(right.get_subscription_count, what='the match')

    def look(stamp):
        right.publish(image_message(stamp, 'right', other_eye()[day.count % len(other_eye())],
                                    'rgb8'))

    day.look = day.beside = look
    day.settle()
    day.graph.spin_until(lambda: day.send() and day.node._check, what='the check')
    day.mark()
    return day, right


def until_checked(day):
    """Go on until depth is compared with what both eyes see."""
    day.beside = day.look
    day.graph.spin_until(lambda: day.send(step=1.0) and day.node._check, what='the check')
    day.recovers()


@fault('The other eye', 'It is unplugged; it comes back.', 'stereo_depth')
def test_one_eye_that_goes(stereo):
    day, _ = stereo
    day.beside = None
    stamps = [day.send(step=1.0) for _ in range(5)]
    day.wait_for(*stamps)
    day.says(WARN, 'No image of the other eye comes any more with the stamp of one of ours: depth '
                   'is not checked.', send=day.send)
    day.publishes('everything')
    until_checked(day)


@fault('The other eye', 'The images of that eye are damaged.', 'stereo_depth')
def test_one_eye_that_is_damaged(stereo):
    day, right = stereo

    def damaged(stamp):
        message = picture_message(stamp, frame_id='right')
        message.data = message.data[:100]
        right.publish(message)

    day.beside = damaged
    stamps = [day.send(step=1.0) for _ in range(3)]
    day.wait_for(*stamps)
    day.says(WARN, "The image of the other eye cannot be used: an image of encoding 'rgb8', …, "
                   'step …, 100 bytes is too short: it takes … bytes; depth is not checked.',
             send=lambda: day.send(step=1.0))
    day.publishes('everything')
    until_checked(day)
