# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Strips of frames: written as published, by the verbs, and read again as a recording."""

import io
import json
import os
from pathlib import Path
import pickle
import re

import cv2
import numpy as np
from PIL import Image
from public_trees import (
    CAMERA, write_calibration, write_cityscapes, write_image, write_kitti_odometry,
    write_kitti_raw)
import pytest

from geo_perception.cli import main
from geo_perception.datasets import prepared_writer
from geo_perception.datasets.kitti_calibration import camera_by_size
from geo_perception.datasets.prepared import split_lists
from geo_perception.datasets.prepared_writer import Drive, Form, write_prepared
from geo_perception.datasets.recording import open_images, open_recording
from geo_perception.datasets.snippets import consecutive_snippets
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera

SMALL = ('--height', '32', '--width', '104')


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def prepare(verb, root, *options, output='out'):
    """Run the program and return its numbers."""
    assert main(['prepare', verb, str(root), '--output', output, '--json', 'out.json',
                 *options]) == 0
    return json.loads(Path('out.json').read_text())


def refused(capsys, verb, root, *options, output='out'):
    """Run the program and return its one sentence."""
    assert main(['prepare', verb, str(root), '--output', output, *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ')
    return error


def frames(folder='out'):
    """Return names of the strips in a folder."""
    return sorted(f'{p.parent.name} {p.stem}' for p in Path(folder).glob('*/*.jpg'))


def tree():
    """Return all files and when they were written."""
    return {path: path.stat().st_mtime_ns for path in Path('out').rglob('*') if path.is_file()}


def published_strip(images, size, height=None):
    """Return what the strip of some images looks like after the JPEG, pixel by pixel."""
    strip = Image.new('RGB', (size[0] * len(images), height or size[1]))
    for k, image in enumerate(images):
        strip.paste(Image.open(image).resize(size, Image.BILINEAR), (k * size[0], 0))
    buffer = io.BytesIO()
    strip.save(buffer, 'JPEG', quality=75)
    return np.asarray(Image.open(buffer))


def test_kitti_raw(tmp_path):
    """Names, tiles in order of time, lists and intrinsics."""
    write_kitti_raw(tmp_path / 'kitti', n=6)
    counts = prepare('kitti-raw', 'kitti', *SMALL)
    assert counts['strips'] == counts['written'] == 8 == counts['train'] + counts['val']
    assert frames() == [f'2011_09_26_drive_0001_sync_0{c} {i:010d}' for c in (2, 3)
                        for i in range(1, 5)]
    folder = Path('out/2011_09_26_drive_0001_sync_02')
    with Image.open(folder / '0000000002.jpg') as strip:
        # Quality 75 of the library.
        assert strip.quantization[0][0] == 8
        images = [f'kitti/2011_09_26/2011_09_26_drive_0001_sync/image_02/data/{i:010d}.png'
                  for i in (1, 2, 3)]
        np.testing.assert_array_equal(strip, published_strip(images, (104, 32)))
    K = CAMERA.K
    assert (folder / '0000000002_cam.txt').read_text() == (
        f'{K[0, 0] * 104 / 414:f},0.,{K[0, 2] * 104 / 414:f},0.,{K[1, 1] * 32 / 126:f},'
        f'{K[1, 2] * 32 / 126:f},0.,0.,1.')


def test_published_intrinsics():
    """The example of the specification; exact ones are half a pixel of either size apart."""
    camera = camera_by_size(1242, 375)
    K = Form().intrinsics(camera)
    np.testing.assert_allclose(K, [[241.674463, 0, 204.168010], [0, 246.284868, 59.000832],
                                   [0, 0, 1]], atol=5e-7)
    moved = Form(exact=True).intrinsics(camera) - K
    np.testing.assert_allclose(moved[:2, 2], [0.5 * 416 / 1242 - 0.5, 0.5 * 128 / 375 - 0.5])


def drawn(camera, points):
    """Return a picture with a spot wherever a point is seen."""
    y, x = np.mgrid[:camera.height, :camera.width]
    spots = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 60) for u, v in camera.project(points))
    return np.repeat((200 * spots).clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def found(tile, u, v, reach=5):
    """Return the centre of the spot that is nearest to a place."""
    column, row = round(u), round(v)
    part = tile[row - reach:row + reach + 1, column - reach:column + reach + 1, 0].astype(float)
    rows, columns = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    return column + (columns * part).sum() / part.sum(), row + (rows * part).sum() / part.sum()


@pytest.mark.parametrize('crop_bottom', [False, True])
def test_points_are_where_the_new_intrinsics_project_them(tmp_path, crop_bottom):
    """To a tenth of a pixel; the published rule is off by less than half of one."""
    camera = Camera(np.array([[700.0, 0, 610.3], [0, 705, 180.2], [0, 0, 1]]), 1242, 375)
    points = np.array([[0.0, 0, 5], [-2.5, -0.6, 5], [3.0, 0.1, 5]])
    write_image(tmp_path / '0.png', drawn(camera, points))
    for exact, limit in ((True, 0.1), (False, 0.5)):
        form = Form(3, 128, 416, crop_bottom, exact)
        tile = form.tile(tmp_path / '0.png', camera)
        assert tile.shape == (128, 416, 3)
        seen = Camera(form.intrinsics(camera), 416, 128).project(points)
        errors = [np.abs(np.subtract(found(tile, u, v), (u, v))).max() for u, v in seen]
        assert max(errors) < limit
    assert min(errors) > 0.15


def test_upper_three_quarters_of_cityscapes(tmp_path):
    """The published numbers: 171 rows, of which 128 stay."""
    form = Form(crop_bottom=True)
    assert form.resized_height == 171
    camera = Camera(np.array([[2262.52, 0, 1096.98], [0, 2265.30, 513.137], [0, 0, 1]]),
                    2048, 1024)
    K = form.intrinsics(camera)
    np.testing.assert_allclose(K[1], [0, 2265.30 * 171 / 1024, 513.137 * 171 / 1024])
    write_cityscapes(tmp_path / 'city', n=8)
    counts = prepare('cityscapes', 'city', *SMALL)
    # Two videos of eight frames, of which 2 to 5 have neighbours two frames away.
    assert counts['strips'] == 8
    assert frames()[0] == 'aachen aachen_000000_000002'
    images = [f'city/leftImg8bit_sequence/train/aachen/aachen_000000_{i:06d}_leftImg8bit.png'
              for i in (0, 2, 4)]
    with Image.open('out/aachen/aachen_000000_000002.jpg') as strip:
        np.testing.assert_array_equal(strip, published_strip(images, (104, 43), 32))


def test_kitti_odometry(tmp_path, capsys):
    """Sequences 00 to 08 as far as they are there, five frames; no other unless asked for."""
    for name in ('00', '03', '09'):
        write_kitti_odometry(tmp_path / 'kitti', name, n=7)
    assert prepare('kitti-odometry', 'kitti', *SMALL)['strips'] == 6
    assert frames() == [f'{name} {i:06d}' for name in ('00', '03') for i in (2, 3, 4)]
    assert prepare('kitti-odometry', 'kitti', *SMALL, '--sequences', '09', '--length', '3',
                   output='other')['strips'] == 5
    assert '1 of 2 sequences in kitti/sequences have no colour images (image_2); the first' in (
        refused(capsys, 'kitti-odometry', 'kitti', '--sequences', '00,04', output='third'))


def test_split_is_the_published_draw(tmp_path):
    """One number for each strip, in order of names: a tenth goes to validation."""
    drive = fake_drive(tmp_path, 'b', 30), fake_drive(tmp_path, 'a', 30)
    write_prepared('out', drive, [d.snippets(3) for d in drive], Form(3, 16, 16), {})
    random, lists = np.random.RandomState(8964), {'train': '', 'val': ''}
    for name in frames():
        lists['val' if random.random_sample() < 0.1 else 'train'] += name + '\n'
    assert lists == {name: Path(f'out/{name}.txt').read_text() for name in lists}
    assert lists['train'][-1] == '\n' and 1 < lists['val'].count('\n') < 12


def fake_drive(tmp_path, folder, n, names=None):
    """Return a drive that shows one picture all the time."""
    image = tmp_path / f'{folder}.png'
    write_image(image, np.zeros((40, 60, 3), np.uint8))
    camera = Camera(np.array([[40.0, 0, 30], [0, 40, 20], [0, 0, 1]]), 60, 40)
    return Drive(folder, [image] * n, names or list(range(n)), [f'{i:03d}' for i in range(n)],
                 [camera] * n)


def test_snippets_of_numbered_frames(tmp_path):
    """Only neighbours, unless the published tool is wanted, which does not look."""
    drive = fake_drive(tmp_path, 'a', 7, [0, 1, 2, 5, 6, 7, 8])
    assert drive.snippets(3).tolist() == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]
    assert drive.snippets(3, allow_gaps=True).tolist() == [[i, i + 1, i + 2] for i in range(5)]
    assert drive.snippets(3, step=3).tolist() == [[2, 3, 6]]
    assert drive.snippets(5).tolist() == [] and drive.snippets(5).shape == (0, 5)
    assert fake_drive(tmp_path, 'a', 0).snippets(3, allow_gaps=True).shape == (0, 3)


def test_standing_frames_and_test_scenes(tmp_path, capsys):
    """Published frames go before snippets are formed; test drives go altogether."""
    write_kitti_raw(tmp_path / 'kitti', 17, n=9, cameras=(2,), scans=False)
    write_kitti_raw(tmp_path / 'kitti', 2, n=4, cameras=(2,), scans=False)
    # Of drive 17 frames 0-1 and 4-37 stand, of drive 2 none; 2 is a test scene of Eigen's split,
    # 17 of the stereo split.
    one = ('--cameras', '02', *SMALL)
    assert 'no strip of 3 frames is left' in refused(capsys, 'kitti-raw', 'kitti', *one)
    keep = prepare('kitti-raw', 'kitti', *one, '--static', 'keep', output='keep')
    assert keep['strips'] == 7 and {n.split()[0][17:21] for n in frames('keep')} == {'0017'}
    prepare('kitti-raw', 'kitti', *one, '--split', 'stereo', output='stereo')
    assert {n.split()[0][17:21] for n in frames('stereo')} == {'0002'}
    everything = prepare('kitti-raw', 'kitti', *one, '--split', 'all', '--static', 'keep',
                         output='all')
    assert everything['strips'] == 9


def test_gaps_where_frames_were_removed(tmp_path, capsys):
    """The published tool reaches over them."""
    folder = write_kitti_raw(tmp_path / 'kitti', 52, n=6, cameras=(2,), scans=False) / 'image_02'
    (folder / 'timestamps.txt').unlink()
    for i in range(6):   # frames 23 to 28, of which 25 and 26 stand
        (folder / f'data/{i:010d}.png').rename(folder / f'data/{i + 23:010d}.png')
    options = ('--cameras', '02', '--split', 'all', *SMALL)
    assert 'no strip' in refused(capsys, 'kitti-raw', 'kitti', *options)
    prepare('kitti-raw', 'kitti', *options, '--allow_gaps', output='gaps')
    assert [name[-2:] for name in frames('gaps')] == ['24', '27']


def test_automatic_removal_of_standing_frames(tmp_path):
    """A drive that stands is left out, one that moves stays."""
    write_kitti_raw(tmp_path / 'kitti', 1, n=6, cameras=(2,), scans=False)
    write_kitti_raw(tmp_path / 'kitti', 3, n=6, cameras=(2,), scans=False, speed=0)
    counts = prepare('kitti-raw', 'kitti', '--cameras', '02', '--static', 'automatic', *SMALL)
    assert counts['strips'] == counts['standing'] == 4
    assert {n.split()[0][17:21] for n in frames()} == {'0001'}


def test_an_interrupted_run_continues(tmp_path, monkeypatch, capsys):
    """With what is missing; nothing half written, and no other options."""
    write_kitti_raw(tmp_path / 'kitti', n=8, scans=False)
    write = prepared_writer.write_atomically
    calls = []

    def interrupted(path, data):
        calls.append(path)
        if len(calls) == 8:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(prepared_writer, 'write_atomically', interrupted)
    assert main(['prepare', 'kitti-raw', 'kitti', '--output', 'out', *SMALL]) == 130
    monkeypatch.setattr(prepared_writer, 'write_atomically', write)
    before = tree()
    assert len(frames()) == 3 and not Path('out/train.txt').exists()
    counts = prepare('kitti-raw', 'kitti', *SMALL)
    assert (counts['strips'], counts['written']) == (12, 9)
    after = tree()
    assert all(after[path] == before[path] for path in before)
    assert prepare('kitti-raw', 'kitti', *SMALL)['written'] == 0
    assert 'length 3 instead of 5' in refused(capsys, 'kitti-raw', 'kitti', *SMALL, '--length',
                                              '5')
    assert 'height 32 instead of 128' in refused(capsys, 'kitti-raw', 'kitti')
    for text in ('{', '{"length": 0}', '{"length": 4}', '{"length": Infinity}'):
        Path('out/prepared.json').write_text(text)
        assert 'prepared.json is damaged' in refused(capsys, 'kitti-raw', 'kitti', *SMALL)


def test_a_full_disk(tmp_path, monkeypatch, capsys):
    """One sentence; what is there is whole."""
    write_kitti_raw(tmp_path / 'kitti', n=5, scans=False)
    replace = os.replace

    def full(temporary, path):
        if path.name == '0000000003.jpg':
            raise OSError(28, 'No space left on device')
        replace(temporary, path)

    monkeypatch.setattr(os, 'replace', full)
    error = refused(capsys, 'kitti-raw', 'kitti', *SMALL)
    assert re.search('cannot write .*/0000000003.jpg: No space left', error)
    assert not list(Path('out').rglob('0000000003.jpg*')) and len(frames()) == 2


def test_images_that_cannot_be_read(tmp_path, caplog):
    """Every strip that shows one is left out, counted, and the first is named."""
    drive = write_kitti_raw(tmp_path / 'kitti', n=9, cameras=(2,), scans=False)
    damaged = drive / 'image_02/data/0000000006.png'
    damaged.write_bytes(damaged.read_bytes()[:3000])
    counts = prepare('kitti-raw', 'kitti', '--cameras', '02', *SMALL)
    assert counts['unreadable'] == 3 and counts['strips'] == 4
    assert '1 images cannot be read' in caplog.text and '0000000006.png' in caplog.text


def lose_calibration(root):
    """Forget a download."""
    (root / '2011_09_26/calib_cam_to_cam.txt').unlink()


def lose_images(root):
    """Empty a drive."""
    for image in (root / '2011_09_26/2011_09_26_drive_0001_sync/image_02/data').iterdir():
        image.unlink()


def other_size(root):
    """Mix sizes within a drive."""
    write_image(root / '2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000002.png',
                np.zeros((126, 300, 3), np.uint8))


def other_calibration(root):
    """Take the calibration of another camera."""
    write_calibration(root / '2011_09_26', CAMERA.cropped(0, 0, 200, 100))


@pytest.mark.parametrize('change, words', [
    (lose_calibration, 'lacks the calibration'), (lose_images, 'holds no images'),
    (other_size, '0000000002.png has 300x126 pixels'), (other_calibration, 'is for 200x100')])
def test_trees_that_are_not_whole(tmp_path, capsys, change, words):
    """One sentence each."""
    write_kitti_raw(tmp_path / 'kitti', n=5, scans=False)
    change(tmp_path / 'kitti')
    assert words in refused(capsys, 'kitti-raw', 'kitti', *SMALL)


@pytest.mark.parametrize('verb, options, words', [
    ('kitti-raw', (), 'holds no drive <date>'), ('kitti-odometry', (), 'image_2'),
    ('cityscapes', (), 'holds no city'), ('kitti-raw', ('--length', '4'), 'length is 4'),
    ('kitti-raw', ('--height', '1'), '416x1 pixels'), ('kitti-raw', ('--static', 'no'), 'keep'),
    ('kitti-raw', ('--split', 'own'), 'stereo'), ('kitti-raw', ('--cameras', '2'), '02'),
    ('cityscapes', ('--gap', '0'), 'gap is 0')])
def test_what_makes_no_sense(tmp_path, capsys, verb, options, words):
    """Nothing to prepare, or not like that; nothing is written."""
    (tmp_path / 'empty').mkdir()
    assert words in refused(capsys, verb, 'empty', *options)
    assert not Path('out').exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys):
    """Its owner may need it."""
    write_kitti_raw(tmp_path / 'kitti', n=5, scans=False)
    Path('out').mkdir()
    Path('out/thesis.tex').write_text('')
    assert 'holds something else' in refused(capsys, 'kitti-raw', 'kitti', *SMALL)


@pytest.fixture
def strips(tmp_path):
    """Prepare two drives and return the folder."""
    for number in (1, 3):
        write_kitti_raw(tmp_path / 'kitti', number, n=16, cameras=(2,), scans=False)
    prepare('kitti-raw', 'kitti', '--cameras', '02', *SMALL)
    return tmp_path / 'out'


def test_strips_are_a_recording(strips):
    """Tiles are frames; only those of a strip follow each other."""
    sequence = pickle.loads(pickle.dumps(open_images(strips)))
    lines = [line.split() for name in ('train', 'val')
             for line in (strips / f'{name}.txt').read_text().splitlines()]
    assert len(sequence) == 3 * 28 == len(sequence.stamps) and sequence.poses is None
    assert consecutive_snippets(sequence.stamps).tolist() == np.arange(84).reshape(-1, 3).tolist()
    for index in (0, 4, 83, -1):
        folder, frame = lines[(index % 84) // 3]
        strip = cv2.imread(str(strips / folder / f'{frame}.jpg'))[..., ::-1]
        tile = index % 84 % 3
        got = sequence[index]
        np.testing.assert_array_equal(got.image, strip[:, 104 * tile:104 * (tile + 1)])
        assert got.stamp == sequence.stamps[index] and frame in got.name
        assert (got.camera.width, got.camera.height) == (104, 32)
        np.testing.assert_allclose(got.camera.K, Form(3, 32, 104).intrinsics(CAMERA), atol=1e-6)
    assert len(open_images(strips / 'val.txt')) == 3 * len(
        (strips / 'val.txt').read_text().splitlines())
    assert split_lists(str(strips)) == (str(strips / 'train.txt'), str(strips / 'val.txt'))
    with pytest.raises(RecordingError, match='no recording with poses'):
        open_recording(strips)


def test_strips_of_another_program(strips):
    """The principal point tells how many tiles there are."""
    (strips / 'prepared.json').unlink()
    assert len(open_images(strips)) == 84
    for file in strips.glob('*/*_cam.txt'):
        file.write_text('60.0,0.,70.0,0.,60.0,15.0,0.,0.,1.\n')
    with pytest.raises(RecordingError, match='312 pixels wide.*70: that is no strip'):
        open_images(strips)


def test_missing_files_of_a_prepared_folder(strips):
    """How many, and the first of them."""
    folder, frame = (strips / 'train.txt').read_text().splitlines()[2].split()
    (strips / folder / f'{frame}.jpg').unlink()
    (strips / folder / f'{frame}_cam.txt').unlink()
    with pytest.raises(RecordingError, match=f'2 of 56 files .* the first is .*{frame}.jpg'):
        open_images(strips)


def test_damaged_files_of_a_prepared_folder(strips):
    """Named when they are read."""
    first, second = [strips.joinpath(*line.split()) for line in
                     (strips / 'train.txt').read_text().splitlines()[:2]]
    sequence = open_images(strips)
    write_image(first.with_name(first.name + '.jpg'), np.zeros((32, 100, 3), np.uint8))
    with pytest.raises(RecordingError, match='100 pixels wide, which are not 3 tiles'):
        sequence[0]
    second.with_name(second.name + '_cam.txt').write_text('0,0,0,0,0,0,0,0,0')
    with pytest.raises(RecordingError, match='focal lengths are 0 and 0'):
        sequence[3]


def test_single_frames_with_lists_of_folders(tmp_path):
    """The modern layout: each folder is a video with its intrinsics."""
    for i in range(12):
        for scene in 'ab':
            write_image(tmp_path / scene / f'{i:07d}.jpg', np.full((20, 30, 3), 10 * i, np.uint8))
    for scene, f in (('a', 25), ('b', 26)):
        (tmp_path / scene / 'cam.txt').write_text(f'{f} 0 15\n0 {f} 10\n0 0 1\n')
    (tmp_path / 'train.txt').write_text('a\nb\n')
    (tmp_path / 'val.txt').write_text('')
    sequence = open_images(tmp_path)
    assert len(sequence) == 24 and len(consecutive_snippets(sequence.stamps, 5)) == 16
    assert sequence[11].camera.K[0, 0] == 25 and sequence[12].camera.K[0, 0] == 26
    assert split_lists(str(tmp_path)) is None
    (tmp_path / 'train.txt').write_text('a\nb\nc\n')
    with pytest.raises(RecordingError, match='1 of 3 folders .* the first is .*c'):
        open_images(tmp_path / 'train.txt')


def test_training_from_a_prepared_folder(strips):
    """Its lists are training and validation, and the checkpoint knows which split it was."""
    pytest.importorskip('lightning', reason='lightning is not installed')
    import torch

    from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

    torch.set_num_threads(1)
    assert main(['train', 'sfmlearner', '--data.train', str(strips), '--model.depth',
                 'dispnet_vgg', '--model.depth_arguments', '{width: 0.05}',
                 '--model.egomotion_arguments', '{width: 0.1}', '--model.size', '[32,96]',
                 '--data.batch_size', '8', '--trainer.max_epochs', '1']) == 0
    (checkpoint,) = Path('runs').glob('**/last.ckpt')
    data = read_checkpoint(checkpoint)[CONTENT_KEY]['metadata']['data']
    assert data['train'] == ['out/train.txt'] and data['val'] == 'out/val.txt'
    assert data['prepared'] == ['kitti_raw eigen']
    assert data['train_snippets'] + data['val_snippets'] == 28
