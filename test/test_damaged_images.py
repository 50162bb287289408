# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Images that cannot be read, at the start of a drive and in it, end no verb."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from small_world import CAMERA, write_damaged_image, write_drive
from stereo_world import write_pairs
from tiny_geometry_model import write_flow_model, write_geometry_model
from tiny_model import write_model

from geo_perception.cli import main
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_recording, open_stereo
from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.errors import ImageError
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.geometry_run import with_snippets
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.preprocessing import Preprocessing

FRAMES, DAMAGED = 12, (0, 5)
READABLE = [i for i in range(FRAMES) if i not in DAMAGED]
PREPROCESSING = Preprocessing(short_side=64, crop=(64, 96))


@pytest.fixture(autouse=True)
def interpreted(tmp_path, monkeypatch):
    """Work in an empty folder, and compile nothing: it takes longer than everything else here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    """Return a bag with two damaged images."""
    return write_drive(tmp_path_factory.mktemp('damaged') / 'drive', FRAMES, damaged=DAMAGED)


class Damaged:
    """A recording whose second image is damaged."""

    def __init__(self, sequence):
        self._sequence = sequence

    def __len__(self):
        return len(self._sequence)

    def __getitem__(self, index):
        if index == 1:
            raise ImageError('frame 1 is damaged')
        return self._sequence[index]


def rows(path):
    """Return the rows of a table."""
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_info_looks_at_the_first_that_can_be_read(drive, capsys):
    """What it says of the recording is the same."""
    assert main(['info', str(drive)]) == 0
    assert '12, 96 × 64 pixels' in capsys.readouterr().out


def test_prepare_bag(capsys, caplog):
    """All others are written, each with its own pose and depth."""
    before = open_recording(write_drive('drive', 4, damaged=(0, 2)))
    assert main(['prepare', 'bag', 'drive', '--output', 'copy', '--json', 'copy.json']) == 0
    assert capsys.readouterr().out == 'wrote 2 frames to copy\n'
    assert json.loads(Path('copy.json').read_text())['frames'] == 2
    assert '2 of 4 images cannot be read and are left out' in caplog.text
    copy = open_recording('copy')
    assert copy.stamps.tolist() == before.stamps[1::2].tolist()
    np.testing.assert_allclose(copy.poses, before.poses[1::2], atol=1e-9)
    np.testing.assert_array_equal(copy[1].depth, before[3].depth)


def test_evaluate_odometry(drive, caplog):
    """They are counted as not processed, in every pass over the recording, and warned of once."""
    model = str(write_geometry_model('m.safetensors'))
    assert main(['evaluate', 'odometry', model, str(drive), '--json', 'm.json', '--output',
                 'rows.csv', '--report', 'report']) == 0
    odometry = json.loads(Path('m.json').read_text())['odometry']
    assert (odometry['frames_processed'], odometry['frames_dropped']) == (10, 2)
    assert odometry['baselines']['five_point']['path_m'] == pytest.approx(odometry['path_m'])
    assert [row['name'] != '' for row in rows('rows.csv')] == [i in READABLE
                                                               for i in range(FRAMES)]
    assert caplog.text.count('2 of 12 images cannot be read and are left out') == 1


def test_snippets_leave_no_image_out(drive):
    """Those around a damaged image are unknown."""
    pipeline = GeometryPipeline.load(write_geometry_model('m.safetensors'), precision='fp32')
    sequence = open_recording(drive)
    found = with_snippets(GeometryRecording.unanswered(sequence.stamps), pipeline, sequence)
    known = np.isfinite(found.snippets).all((1, 2, 3))
    assert np.flatnonzero(known).tolist() == [1, 2, 6, 7, 8, 9]


def test_evaluate_relocalization(drive):
    """All others are relocalized and compared with retrieval."""
    model = str(write_model('m.safetensors'))
    assert main(['evaluate', 'relocalization', model, str(drive), '--json', 'm.json',
                 '--report', 'report']) == 0
    metrics = json.loads(Path('m.json').read_text())['relocalization']
    assert (metrics['frames_processed'], metrics['frames_dropped']) == (10, 2)


def test_evaluate_flow():
    """Two pairs have no flow; the pipeline begins anew behind them."""
    drive = SampleWorld(0, CAMERA).drive('test', 6)
    with BagWriter('bag') as bag:
        for i in range(6):
            frame = drive[i]
            if i == 2:
                write_damaged_image(bag, '/image', frame.stamp)
            else:
                bag.image('/image', frame.stamp, 'camera', frame.image, 'rgb8')
            bag.camera_info('/camera_info', frame.stamp, CAMERA)
            bag.image('/flow', frame.stamp, 'camera', frame.flow, '32FC2')
    model = str(write_flow_model('m.safetensors', zero_heads=False))
    assert main(['evaluate', 'flow', model, 'bag', '--json', 'm.json', '--output',
                 'rows.csv']) == 0
    assert [row['name'] != '' for row in rows('rows.csv')] == [True, False, False, True, True]
    flow = json.loads(Path('m.json').read_text())['flow']
    assert flow['pairs'] == 5 and flow['pairs_processed'] == 3


def test_nothing_that_can_be_read_is_an_error(capsys):
    """Said as before."""
    write_drive('drive', 3, damaged=(1, 2))
    model = str(write_geometry_model('m.safetensors'))
    assert main(['evaluate', 'depth', model, 'drive[1:]']) == 1
    assert 'frame /camera/image_raw@1100000000 of drive' in capsys.readouterr().err


def test_training_leaves_them_out(drive):
    """Poses stay with their images, and no snippet has a damaged one."""
    pytest.importorskip('lightning', reason='lightning is not installed')
    from geo_perception.training.novel_views import fuse_depth
    from geo_perception.training.relocalization_data import load_posed_images
    from geo_perception.training.stereo_data import load_pairs
    from geo_perception.training.view_synthesis_data import load_video

    sequence = open_recording(drive)
    posed = load_posed_images(sequence, PREPROCESSING, with_points=True)
    assert len(posed.images) == len(posed.thumbnails) == len(posed.points) == len(READABLE)
    np.testing.assert_array_equal(posed.poses, sequence.poses[READABLE])
    for image, i in zip(posed.images, READABLE):
        np.testing.assert_array_equal(image, sequence[i].image)
    assert len(fuse_depth(sequence)) > 0 and posed.recorded_camera.fx == 80
    video = load_video(sequence, PREPROCESSING, 3, 1, 'drive')
    assert video.snippets[:, 1].tolist() == [2, 3, 7, 8, 9, 10]
    assert [depth is not None for depth in video.depths] == [i in READABLE
                                                             for i in range(FRAMES)]
    pairs = Damaged(open_stereo(write_pairs('pairs', 'val', 3)))
    assert len(load_pairs(pairs, PREPROCESSING, 'pairs').images) == 2
    write_drive('all', 3, damaged=range(1, 3))
    with pytest.raises(ImageError, match='frame .* of all'):
        load_posed_images(open_recording('all[1:]'), PREPROCESSING)
