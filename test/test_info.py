# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception info``: what is in a file is said as it is."""

from dataclasses import replace
import json

import cv2
from small_world import write_drive
from tiny_geometry_model import write_geometry_model
from tiny_model import write_model

from geo_perception.cli import main
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_recording
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.model_file import load_model_file, save_model_file


def told(capsys, *arguments):
    """Return what the verb prints, by its first words, and its notes."""
    assert main(['info', *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    notes = [line for line in lines if line.startswith('note: ')]
    return dict(line.split('  ', 1) for line in lines if line not in notes), notes


def test_model_files(capsys, tmp_path):
    """Job, network, camera and calibration."""
    write_model(tmp_path / 'a.safetensors')
    found, _ = told(capsys, tmp_path / 'a.safetensors', '--json', tmp_path / 'a.json')
    assert found['For'].strip() == 'relocalization' and found['World frame'].strip() == 'office'
    assert '180 × 120 pixels, fx 150.0' in found['Training camera']
    assert '96 × 64 pixels' in found['Network sees'] and 'floor position 0.05' in found[
        'Calibration']
    assert json.loads((tmp_path / 'a.json').read_text())['World frame'] == 'office'
    write_model(tmp_path / 'b.safetensors', calibration={'scale': None, 'floor': 0.05})
    assert told(capsys, tmp_path / 'b.safetensors')[0]['Calibration'].strip() == (
        'scale None, floor 0.05')
    model = write_geometry_model(tmp_path / 'g.safetensors')
    assert told(capsys, model)[0]['For'].strip() == 'geometry'
    # Models for depth from pairs have neither poses nor a world.
    loaded = load_model_file(model)
    save_model_file(model, replace(loaded.metadata, rotation='', world_frame=''), loaded.tensors)
    found, _ = told(capsys, model)
    assert 'World frame' not in found and found['Architecture'].strip() == 'dispnet_vgg'


def test_what_is_no_model_file_is_told_as_one(capsys, tmp_path):
    """A checkpoint is to be exported; a name that is wrong is that of no recording."""
    (tmp_path / 'best.ckpt').write_bytes(b'PK\x03\x04 and so on')
    for name, words in (('best.ckpt', 'make one with "geo_perception export"'),
                        ('office.place', 'cannot read model file')):
        assert main(['info', str(tmp_path / name)]) == 1
        assert words in capsys.readouterr().err


def test_a_recording(capsys, tmp_path):
    """Images, times, intrinsics, what lies beside them and the path."""
    bag = write_drive(tmp_path / 'drive', 12)
    found, notes = told(capsys, bag)
    assert found['Frames'].strip().startswith('12, 96 × 64 pixels, the first ')
    assert '1.1 s, usually 0.100 s from frame to frame, at most 0.100 s' in found['Time']
    assert 'fx 80.0' in found['Intrinsics'] and 'depth' in found['Beside the first']
    assert "in the frame 'map', path" in found['Poses'] and not notes
    assert told(capsys, f'{bag}[3]')[0]['Frames'].strip().startswith('1, ')


def test_wrong_poses_are_noted(capsys, tmp_path):
    """Inverted ones, as before training."""
    sequence = open_recording(write_drive(tmp_path / 'drive', 60))
    with BagWriter(tmp_path / 'inverted') as bag:
        for i in range(len(sequence)):
            frame = sequence[i]
            bag.image('/camera/image_raw', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera/camera_info', frame.stamp,
                            replace(frame.camera, frame_id='camera'))
            bag.pose('/pose', frame.stamp, 'map', inverse_transform(frame.T_world_camera))
    assert any('world-to-camera' in note for note in told(capsys, tmp_path / 'inverted')[1])


def test_a_folder_of_pictures(capsys, tmp_path):
    """Neither intrinsics nor poses."""
    sequence = open_recording(write_drive(tmp_path / 'drive', 2))
    (tmp_path / 'pictures').mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / 'pictures' / f'{i}.png'), sequence[i].image)
    found, notes = told(capsys, tmp_path / 'pictures')
    assert [found[name].strip() for name in ('Intrinsics', 'Beside the first', 'Poses')] == [
        'none', 'nothing', 'none'] and not notes
