# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception prepare``: turn recordings into other forms."""

from typing import Optional


def bag(recording: str, *, output: str, overwrite: bool = False,
        image_topic: Optional[str] = None, pose_topic: Optional[str] = None,
        camera_info_topic: Optional[str] = None,
        pose_frame: Optional[str] = None, quaternion: Optional[str] = None,
        json: Optional[str] = None):
    """
    Write any recording as a ROS 2 bag, to be played, shared or trained from.

    Topics: ``/camera/image_raw``, ``/camera/camera_info``, ``/ground_truth/pose`` and
    ``/camera/depth/image``, as far as the recording has them. Images that cannot be read are left
    out.

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
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    json : str, optional
        Write a summary to this file.

    Returns
    -------
    dict
        ``frames``, those that were written, and ``output``.

    """
    from dataclasses import replace
    from pathlib import Path

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.bag_writer import BagWriter
    from geo_perception.datasets.readable import readable_frames
    from geo_perception.datasets.recording import open_with_poses_if_any, split_spec
    from geo_perception.errors import RecordingError
    from geo_perception.progress import track

    sequence = open_with_poses_if_any(recording, image_topic, pose_topic, camera_info_topic,
                                      quaternion, pose_frame, beside=('depth',))
    source, target = split_spec(recording)[0].resolve(), Path(output).resolve()
    if target in (source, *source.parents):
        raise RecordingError(f'{output} holds the recording itself, of which the new bag has a '
                             'part only; choose another output')
    # Datasets without times count from zero, which ROS takes for "no time".
    offset, written = max(0, 10**9 - int(sequence.stamps[0])), 0
    with BagWriter(output, overwrite=overwrite) as writer:
        for _, frame in track(readable_frames(sequence), 'Writing frames', total=len(sequence)):
            written += 1
            stamp, camera = frame.stamp + offset, frame.camera
            frame_id = (camera.frame_id if camera else '') or 'camera_optical_frame'
            writer.image('/camera/image_raw', stamp, frame_id, frame.image, 'rgb8')
            if sequence.poses is not None:
                writer.pose('/ground_truth/pose', stamp, sequence.world_frame,
                            frame.T_world_camera)
            if camera is not None:
                writer.camera_info('/camera/camera_info', stamp,
                                   replace(camera, frame_id=frame_id))
            if frame.depth is not None:
                writer.image('/camera/depth/image', stamp, frame_id, frame.depth, '32FC1')
    lacking = '' if sequence.poses is not None else ' without poses'
    print(f'wrote {written} frames{lacking} to {output}')
    summary = {'frames': written, 'output': output}
    write_outcome(json, summary)
    return summary


def kitti_raw(root: str, *, output: str, cameras: str = '02,03', length: int = 3,
              height: int = 128, width: int = 416, static: str = 'published',
              split: str = 'eigen', allow_gaps: bool = False, exact_intrinsics: bool = False,
              json: Optional[str] = None):
    """
    Cut KITTI raw into the strips that SfMLearner and GeoNet train from.

    ``<drive>_sync_<camera>/<frame>.jpg`` (the frames of a snippet side by side, JPEG quality 75,
    resized by Pillow's antialiased bilinear filter), ``_cam.txt``, ``train.txt`` and ``val.txt``.
    The same command continues an interrupted run.

    Parameters
    ----------
    root : str
        Folder of the dates, each with its calibration and drives.
    output : str
        Folder to write.
    cameras : str
        ``02,03`` or one of them; each is a video of its own.
    length : int
        Frames of a strip: 3 for depth, 5 for the published odometry.
    height : int
        Of a frame, pixels.
    width : int
        Of a frame, pixels.
    static : str
        Frames of a standing car: ``published`` (SfMLearner's list), ``published_geonet``,
        ``automatic`` (by the motion of the picture) or ``keep``.
    split : str
        What is kept out: ``eigen`` (28 test scenes), ``stereo`` (29, for flow) or ``all``
        (nothing).
    allow_gaps : bool
        Let strips reach over removed frames, as the published tool does.
    exact_intrinsics : bool
        Move the principal point with the pixel centres; the published tool is off by a third of
        a pixel.
    json : str, optional
        Write the numbers of strips to this file.

    Returns
    -------
    dict
        ``strips``, ``train``, ``val``, ``written``, ``standing``, ``unreadable`` and ``output``.

    """
    from pathlib import Path

    from geo_perception.datasets.kitti_lists import static_frames
    from geo_perception.datasets.prepared_writer import Form
    from geo_perception.datasets.published_drives import kitti_raw_drives

    form = Form(length, height, width, exact=exact_intrinsics)
    _one_of('static', static, ('published', 'published_geonet', 'automatic', 'keep'))
    _one_of('split', split, ('eigen', 'stereo', 'all'))
    chosen = cameras.split(',')
    for camera in chosen:
        _one_of('camera', camera, ('00', '01', '02', '03'))
    removed = set()
    if static.startswith('published'):
        removed = static_frames('geonet' if static == 'published_geonet' else 'sfmlearner')
    drives = kitti_raw_drives(Path(root).expanduser(), chosen, split, removed)
    return _write(output, drives, form, static, json, allow_gaps=allow_gaps, settings={
        'dataset': 'kitti_raw', 'split': split, 'cameras': chosen})


def kitti_odometry(root: str, *, output: str, sequences: Optional[str] = None, length: int = 5,
                   height: int = 128, width: int = 416, static: str = 'keep',
                   exact_intrinsics: bool = False, json: Optional[str] = None):
    """
    Cut KITTI odometry into the strips that SfMLearner and GeoNet train from.

    Colour camera 2, training sequences 00 to 08; see ``prepare kitti-raw`` for what is written.

    Parameters
    ----------
    root : str
        Folder with ``sequences``.
    output : str
        Folder to write.
    sequences : str, optional
        Which, such as ``00,02``; by default 00 to 08 as far as they are there.
    length : int
        Frames of a strip: 5 for the published odometry, 3 for depth.
    height : int
        Of a frame, pixels.
    width : int
        Of a frame, pixels.
    static : str
        Frames of a standing car: ``keep`` (as published) or ``automatic`` (left out by the
        motion of the picture).
    exact_intrinsics : bool
        Move the principal point with the pixel centres; the published tool is off by a third of
        a pixel.
    json : str, optional
        Write the numbers of strips to this file.

    Returns
    -------
    dict
        ``strips``, ``train``, ``val``, ``written``, ``standing``, ``unreadable`` and ``output``.

    """
    from pathlib import Path

    from geo_perception.datasets.prepared_writer import Form
    from geo_perception.datasets.published_drives import kitti_odometry_drives

    form = Form(length, height, width, exact=exact_intrinsics)
    _one_of('static', static, ('keep', 'automatic'))
    drives = kitti_odometry_drives(Path(root).expanduser(), sequences and sequences.split(','))
    return _write(output, drives, form, static, json, settings={
        'dataset': 'kitti_odometry', 'split': ','.join(drive.folder for drive in drives)})


def cityscapes(root: str, *, output: str, split: str = 'train', length: int = 3,
               height: int = 128, width: int = 416, gap: int = 2, static: str = 'keep',
               exact_intrinsics: bool = False, json: Optional[str] = None):
    """
    Cut the videos of Cityscapes into the strips that SfMLearner trains from.

    The upper three quarters of each image are kept, without the bonnet; see ``prepare kitti-raw``
    for what is written.

    Parameters
    ----------
    root : str
        Folder with ``leftImg8bit_sequence`` and ``camera``.
    output : str
        Folder to write.
    split : str
        ``train``, ``val`` or ``test``.
    length : int
        Frames of a strip.
    height : int
        Of a frame, pixels.
    width : int
        Of a frame, pixels.
    gap : int
        Every how many frames one is taken; 2 gives about the rate of KITTI.
    static : str
        Frames of a standing car: ``keep`` (as published) or ``automatic`` (left out by the
        motion of the picture).
    exact_intrinsics : bool
        Move the principal point with the pixel centres; the published tool is off by a third of
        a pixel.
    json : str, optional
        Write the numbers of strips to this file.

    Returns
    -------
    dict
        ``strips``, ``train``, ``val``, ``written``, ``standing``, ``unreadable`` and ``output``.

    """
    from pathlib import Path

    from geo_perception.datasets.prepared_writer import Form
    from geo_perception.datasets.published_drives import cityscapes_drives
    from geo_perception.errors import ConfigurationError

    form = Form(length, height, width, crop_bottom=True, exact=exact_intrinsics)
    _one_of('static', static, ('keep', 'automatic'))
    if gap < 1:
        raise ConfigurationError(f'gap is {gap}; give 1 or more')
    drives = cityscapes_drives(Path(root).expanduser(), split)
    return _write(output, drives, form, static, json, step=gap, settings={
        'dataset': 'cityscapes', 'split': split, 'gap': gap})


def stereo(recording: str, *, pairs: int = 12, max_disparity: float = 0.3, force: bool = False,
           image_topic: Optional[str] = None, right_topic: Optional[str] = None,
           camera_info_topic: Optional[str] = None, json: Optional[str] = None):
    """
    Look at the stereo camera of a recording, and say whether depth can be learned from it.

    Measured on the pairs themselves: how far rows are off, which eye is which, what one eye
    sees and the other does not, how far apart in time they look; and what the calibration says of
    the baseline. Every "train monodepth" does the same before it begins.

    Parameters
    ----------
    recording : str
        Bag with two image topics, KITTI drive, list of pairs, or folder with ``left`` and
        ``right``, with an optional slice: ``drive[0:500]``.
    pairs : int
        How many are looked at, evenly spread.
    max_disparity : float
        The largest that the network can say, parts of the width.
    force : bool
        End well although the rig is hopeless.
    image_topic : str, optional
        Image topic of the left eye; by default the only one that fits.
    right_topic : str, optional
        Image topic of the right eye; by default the one named like it.
    camera_info_topic : str, optional
        Calibration topic of the left eye; by default the one beside its images.
    json : str, optional
        Write what was found to this file.

    Returns
    -------
    dict
        The measurements, ``faults`` and ``warnings``.

    """
    from dataclasses import asdict

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.recording import open_stereo
    from geo_perception.datasets.rig_check import check_rig
    from geo_perception.errors import ConfigurationError, RecordingError

    if pairs < 1:
        raise ConfigurationError(f'pairs is {pairs}; give 1 or more')
    report = check_rig(open_stereo(recording, image_topic, right_topic, camera_info_topic),
                       max_disparity, pairs)
    print(*report.measurements(), sep='\n')
    # JSON knows no NaN.
    summary = {name: None if value != value else value for name, value in asdict(report).items()}
    summary['disparity_px'] = [None if value != value else value for value in report.disparity_px]
    write_outcome(json, summary)
    if report.hopeless and not force:
        raise RecordingError(f'{recording}: {report.verdict()}')
    print(report.verdict())
    return summary


def _one_of(name, value, known):
    from geo_perception.errors import ConfigurationError

    if value not in known:
        raise ConfigurationError(f"{name} '{value}' is unknown; choose {', '.join(known)}")


def _write(output, drives, form, static, json, settings, step=1, allow_gaps=False):
    """Write strips and say how many."""
    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.prepared_writer import write_prepared

    snippets = [drive.snippets(form.length, step, allow_gaps) for drive in drives]
    summary = write_prepared(output, drives, snippets, form,
                             {**settings, 'static': static, 'allow_gaps': allow_gaps},
                             moving_only=static == 'automatic')
    left_out = ''.join(f', {summary[key]} {words}' for key, words in (
        ('standing', 'standing still'), ('unreadable', 'with unreadable images')) if summary[key])
    print(f"{summary['strips']} strips of {len(drives)} drives: {summary['train']} for training, "
          f"{summary['val']} for validation; {summary['written']} written now{left_out}; "
          f'in {output}')
    summary['output'] = output
    write_outcome(json, summary)
    return summary
