# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception prepare``: turn recordings into other forms."""

from typing import Optional


def bag(recording: str, *, output: str, overwrite: bool = False,
        image_topic: Optional[str] = None, pose_topic: Optional[str] = None,
        pose_frame: Optional[str] = None, quaternion: Optional[str] = None,
        json: Optional[str] = None):
    """
    Write any recording as a ROS 2 bag, to be played, shared or trained from.

    Topics: ``/camera/image_raw``, ``/camera/camera_info``, ``/ground_truth/pose`` and
    ``/camera/depth/image``, as far as the recording has them.

    Parameters
    ----------
    recording : str
        Dataset folder or file, or bag, with an optional slice: ``scene[0:500]``.
    output : str
        Folder of the new bag (mcap).
    overwrite : bool
        Replace a bag that is there.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    json : str, optional
        Write a summary to this file.

    Returns
    -------
    dict
        ``frames`` and ``output``.

    """
    from dataclasses import replace

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.bag_writer import BagWriter
    from geo_perception.datasets.recording import open_recording
    from geo_perception.progress import track

    sequence = open_recording(recording, image_topic=image_topic, pose_topic=pose_topic,
                              pose_frame=pose_frame, quaternion=quaternion)
    # Datasets without times count from zero, which ROS takes for "no time".
    offset = max(0, 10**9 - int(sequence.stamps[0]))
    with BagWriter(output, overwrite=overwrite) as writer:
        for i in track(range(len(sequence)), 'Writing frames'):
            frame = sequence[i]
            stamp, camera = frame.stamp + offset, frame.camera
            frame_id = (camera.frame_id if camera else '') or 'camera_optical_frame'
            writer.image('/camera/image_raw', stamp, frame_id, frame.image, 'rgb8')
            writer.pose('/ground_truth/pose', stamp, sequence.world_frame,
                        frame.T_world_camera)
            if camera is not None:
                writer.camera_info('/camera/camera_info', stamp,
                                   replace(camera, frame_id=frame_id))
            if frame.depth is not None:
                writer.image('/camera/depth/image', stamp, frame_id, frame.depth, '32FC1')
    print(f'wrote {len(sequence)} frames to {output}')
    summary = {'frames': len(sequence), 'output': output}
    write_outcome(json, summary)
    return summary
