# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception map``: remember a place, so that poses in it can be verified."""

from typing import Optional


def map_place(recording: str, *, output: str, relocalizer: Optional[str] = None,
              add: Optional[str] = None, features: str = 'sift', key_frames: int = 200,
              json: Optional[str] = None, image_topic: Optional[str] = None,
              pose_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
              pose_frame: Optional[str] = None):
    """
    Make the place memory of a recording with poses: key frames, features and their 3-D points.

    The file holds a relocalizer as well and is used wherever one is: its coarse pose says where
    to look, the features say exactly where, or that the image is refused. Gate and covariance
    are fitted on frames of the recording that the memory is made to forget.

    Parameters
    ----------
    recording : str
        Bag, dataset folder or file with poses and intrinsics, with an optional slice:
        ``drive[0:500]``. Depth (registered to the images, in some of the frames at least) gives
        the points; without depth they are triangulated.
    output : str
        Place file to write.
    relocalizer : str, optional
        Model file for relocalization in the same world; by default a light one is trained on
        the recording.
    add : str, optional
        Place file to add the key frames of this recording to, in the same world; nothing is
        trained.
    features : str
        ``sift`` or ``orb`` (faster to find, less sure).
    key_frames : int
        At most so many of this recording.
    json : str, optional
        Write the summary to this file.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.

    Returns
    -------
    dict
        Counts, coverage (shares of left out frames that are answered), megabytes, seconds.

    """
    from pathlib import Path
    import time

    from geo_perception.commands.outcome import require_writable, write_outcome
    from geo_perception.datasets.recording import open_recording
    from geo_perception.errors import ConfigurationError
    from geo_perception.inference.relocalizer import JOB, Relocalizer
    from geo_perception.model_file import load_model_file, save_model_file
    from geo_perception.training.place_file import make_place_file

    started = time.monotonic()
    if relocalizer and add:
        raise ConfigurationError('--add takes the relocalizer of that place file; leave out '
                                 '--relocalizer')
    require_writable(output, json)
    topics = {'image_topic': image_topic, 'pose_topic': pose_topic, 'pose_frame': pose_frame}
    sequence = open_recording(recording, camera_info_topic=camera_info_topic, beside=('depth',),
                              **topics)
    if add or relocalizer:
        model = load_model_file(add or relocalizer, JOB)
    else:
        from geo_perception.commands.quick_training import train_quickly

        model = train_quickly(recording, camera_info_topic=camera_info_topic, **topics)
    metadata, tensors = make_place_file(
        sequence, Relocalizer(model), Path(recording).name, features, key_frames,
        extend=bool(add))
    save_model_file(output, metadata, tensors)
    summary = {**metadata.place['summary'], 'output': output,
               'megabytes': Path(output).stat().st_size / 1e6,
               'seconds': time.monotonic() - started}
    _print(summary)
    write_outcome(json, summary)
    return summary


def _print(summary):
    """Say what the memory holds, and where it will refuse."""
    print(f"{summary['key_frames']} key frames with {summary['points']} points from "
          f"{summary['points_from']}")
    for row in summary['coverage']:
        to = f"to {row['to_deg']:g}" if row['to_deg'] is not None else 'and more'
        median = ('' if row['position_m'] is None else
                  f", {100 * row['position_m']:.1f} cm and {row['orientation_deg']:.2f} deg off "
                  '(median)')
        print(f"left out, nearest key frame {row['from_deg']:g} {to} deg away: "
              f"{row['answered']} of {row['frames']} answered{median}")
    for sentence in summary['warnings']:
        print(f'note: {sentence}')
    print(f"wrote {summary['output']} ({summary['megabytes']:.1f} MB, "
          f"{summary['seconds']:.0f} s)")
