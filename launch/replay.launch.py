# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Play a bag into live nodes, record and score what they answer, and end with the bag.

    ros2 launch geo_perception replay.launch.py bag:=field_test relocalizer:=office.safetensors \
        geometry:=drive.safetensors report:=out

This is ``geo_perception replay``, which starts nodes of its own on a private ROS domain, so that a
robot that runs on this machine is not disturbed.
"""

import signal

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

_INTERRUPTED = 130   # exit status of `geo_perception` after Ctrl-C
# Name -> option of `geo_perception replay`, default, choices, description.
_ARGUMENTS = {
    'relocalizer': ('relocalizer', '', None, 'Model file for the node relocalize; empty: none.'),
    'geometry': ('geometry', '', None, 'Model file for the node geometry; empty: none.'),
    'report': ('report', 'report', None, 'Folder for report.html and the tables; empty: none.'),
    'json': ('json', '', None, 'File for the metrics; empty: none.'),
    'rate': ('rate', '1.0', None, 'Speed of the playback, 1.0 as recorded.'),
    'lockstep': ('lockstep', 'false', ['true', 'false'],
                 'Play the next image when the last one is answered, so that none is dropped.'),
    'image': ('image_topic', '', None, 'Image topic in the bag; empty: the only one that fits.'),
    'camera_info': ('camera_info_topic', '', None, 'Calibration topic in the bag; empty: the one '
                    'that belongs to the images.'),
    'pose': ('pose_topic', '', None, 'Pose, odometry or TF topic of the truth in the bag; empty: '
             'the only one that fits.'),
    'pose_frame': ('pose_frame', '', None,
                   'Frame whose pose that topic gives; empty: that of the camera.'),
}


def generate_launch_description():
    """Return arguments and the process."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='ROS 2 bag with images, and poses to score by; '
                              'a slice such as drive[0:500] plays a part.'),
        *(DeclareLaunchArgument(name, default_value=default, choices=choices, description=text)
          for name, (_, default, choices, text) in _ARGUMENTS.items()),
        OpaqueFunction(function=_replay)])


def _replay(context):
    """Return the process; options that were not given are left to its own defaults."""
    given = {option: LaunchConfiguration(name).perform(context)
             for name, (option, *_) in _ARGUMENTS.items()}
    options = [word for option, value in given.items() if value for word in (f'--{option}', value)]
    return [ExecuteProcess(
        cmd=[ExecutableInPackage('geo_perception', 'geo_perception'), 'replay',
             LaunchConfiguration('bag'), *options],
        name='replay', output='screen', emulate_tty=True, on_exit=_end)]


def _end(event, context):
    """End the launch with the process; its failure is that of the launch, a signal none."""
    if event.returncode in (_INTERRUPTED, -signal.SIGINT):
        return Shutdown(reason='the replay was interrupted')
    if event.returncode:
        raise RuntimeError(f'geo_perception replay failed with exit status {event.returncode}; '
                           'its last line says why')
    return Shutdown(reason='the bag is over')
