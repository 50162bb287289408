# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Published numbers of depth from stereo pairs, beside a second way to compute them."""

import json
from pathlib import Path

import cv2
import numpy as np
from public_trees import BASELINE, CAMERA, dumb_depth, picture, scan, write_image, write_kitti_raw
import pytest
from tiny_stereo_model import ARGUMENTS, metadata, weights
import torch

from geo_perception.cli import main
from geo_perception.datasets import kitti_calibration, kitti_raw, stereo_lists
from geo_perception.model_file import save_model_file
from geo_perception.networks.stereo import build_stereo_network

TEST_FRAMES = (('2011_09_26_drive_0002', 4), ('2011_09_26_drive_0002', 1),
               ('2011_09_28_drive_0002', 3))
GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
WHOLE = (0, 1, 0, 1)
SIZE = CAMERA.width, CAMERA.height


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder with a model, compile nothing, and let two drives be all of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    for module in ('datasets.kitti_raw', 'evaluation.training_overlap'):
        monkeypatch.setattr(f'geo_perception.{module}.eigen_test_frames', lambda: TEST_FRAMES)
    save_model_file('tiny.safetensors', metadata(), weights())


@pytest.fixture
def benchmark(monkeypatch):
    """Write KITTI 2015 with two pairs and return the disparities."""
    monkeypatch.setattr(stereo_lists, 'BENCHMARK_PAIRS', 2)
    monkeypatch.setattr(kitti_calibration, '_DAYS', {SIZE: (240.0, 203.2, 57.6)})
    truth = []
    for i in range(2):
        write_image(Path(f'kitti/training/image_2/{i:06d}_10.png'), picture(i + 3))
        write_image(Path(f'kitti/training/image_3/{i:06d}_10.png'), picture(i + 4))
        units = np.random.default_rng(i).integers(100, 20_000, SIZE[::-1], np.uint16)
        units[:30] = 0
        write_image(Path(f'kitti/training/disp_noc_0/{i:06d}_10.png'), units)
        truth.append(units / 256)
    return truth


def evaluate(recording, *options):
    """Run the program and return its numbers."""
    assert main(['evaluate', 'depth', 'tiny.safetensors', str(recording), '--json', 'm.json',
                 '--device', 'cpu', '--precision', 'fp32', *options]) == 0
    return json.loads(Path('m.json').read_text())


def disparity(i, post_process):
    """Return what the network says of a picture, pixels of its size."""
    network = build_stereo_network('monodepth_resnet50', ARGUMENTS)
    network.load_state_dict({name.removeprefix('network.'): torch.tensor(value)
                             for name, value in weights().items()})
    small = cv2.resize(picture(i), (128, 64), interpolation=cv2.INTER_AREA)
    seen = torch.tensor(small).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        d = network(seen)[0][0, 0].numpy()
        if post_process:
            other = network(seen.flip(-1))[0][0, 0].numpy()[:, ::-1]
            m = 1 - np.clip(20 * (np.linspace(0, 1, 128) - 0.05), 0, 1)
            d = m[::-1] * d + m * other + (1 - m - m[::-1]) * (d + other) / 2
    return cv2.resize(d.astype(np.float32), SIZE).astype(float) * CAMERA.width


def published_errors(pairs, crop, cap, cap_truth=True):
    """Return mean errors of (truth, predicted disparity), as the published program has them."""
    errors = []
    for g, d in pairs:
        mask = np.zeros(g.shape, bool)
        top, bottom, left, right = crop
        mask[int(top * 126):int(bottom * 126), int(left * 414):int(right * 414)] = True
        mask &= g > 1e-3
        if cap_truth:
            mask &= g < cap
        g, p = g[mask], np.clip(240 * BASELINE / d[mask], 1e-3, cap)
        ratio = np.maximum(g / p, p / g)
        errors.append([(np.abs(g - p) / g).mean(), ((g - p) ** 2 / g).mean(),
                       np.sqrt(((g - p) ** 2).mean()),
                       np.sqrt(((np.log(g) - np.log(p)) ** 2).mean()),
                       *((ratio < 1.25 ** k).mean() for k in (1, 2, 3))])
    return np.mean(errors, 0)


def found_errors(metrics):
    """Return the same from the program."""
    return [metrics[name] for name in
            ('abs_rel', 'sq_rel', 'rmse_m', 'rmse_log', 'a1', 'a2', 'a3')]


def write_drives(cameras=(2,)):
    """Write KITTI raw, two days with a drive."""
    for day in ('2011_09_26', '2011_09_28'):
        write_kitti_raw(Path('kitti').absolute(), 2, day=day, cameras=cameras, poses=False)


@pytest.mark.parametrize('cap, post_process', [(80.0, False), (50.0, True), (15.0, False)])
def test_eigen_split(cap, post_process, capsys):
    """Garg's crop, the scan at the original size, metres by KITTI's own baseline."""
    write_drives()
    found = evaluate('kitti', '--split', 'eigen', '--cap', str(cap), '--post_process',
                     str(post_process).lower())
    pairs = [(dumb_depth(scan(i), True), disparity(i, post_process)) for _, i in TEST_FRAMES]
    assert found_errors(found['depth']) == pytest.approx(
        published_errors(pairs, GARG, cap), rel=2e-4)
    assert (found['depth']['images_scored'], found['depth']['cap_m']) == (3, cap)
    # Eigen's images have no right eye there, and disparity no number.
    assert found['disparity']['network']['images'] == 0
    assert 'brought to the baseline of the split' in ' '.join(capsys.readouterr().out.split())


def write_annotated(depth_of):
    """Write KITTI raw with annotated depth; return it."""
    write_drives()
    truth = []
    for drive, i in TEST_FRAMES:
        units = depth_of(i).astype(np.uint16)
        write_image(Path('kitti', drive[:10], f'{drive}_sync', 'proj_depth/groundtruth/image_02',
                         f'{i:010d}.png'), units)
        truth.append(units / 256)
    return truth


def test_eigen_split_with_annotated_depth(monkeypatch):
    """Of the images that have it, without a crop, in metres by KITTI's own baseline."""
    monkeypatch.setattr(kitti_raw, 'ANNOTATED_TEST_IMAGES', 3)
    truth = write_annotated(lambda i: np.random.default_rng(i).integers(500, 30_000, SIZE[::-1])
                            * (np.arange(SIZE[1]) > 30)[:, None])
    found = evaluate('kitti', '--split', 'eigen_benchmark', '--post_process', 'false')['depth']
    pairs = [(g, disparity(i, False)) for (_, i), g in zip(TEST_FRAMES, truth)]
    assert found_errors(found) == pytest.approx(published_errors(pairs, WHOLE, 80.0), rel=2e-4)
    assert (found['images_scored'], found['crop']) == (3, 'none')


def test_a_wall_at_a_known_distance(monkeypatch):
    """Numbers that need no second program: 12 m are seen, and 10, 16 and 12 m are true."""
    monkeypatch.setattr(kitti_raw, 'ANNOTATED_TEST_IMAGES', 3)
    seen = 240 / CAMERA.width * BASELINE / 12.0   # as disparity, parts of the width
    save_model_file('tiny.safetensors', metadata(), weights(constant=seen))
    distances = dict(zip((i for _, i in TEST_FRAMES), (10, 16, 12)))
    write_annotated(lambda i: np.full(SIZE[::-1], 256 * distances[i]))
    found = evaluate('kitti', '--split', 'eigen_benchmark', '--post_process', 'false')['depth']
    expected = ((0.2 + 0.25 + 0) / 3, (4 / 10 + 16 / 16 + 0) / 3, (2 + 4 + 0) / 3,
                (np.log(1.2) + np.log(16 / 12) + 0) / 3, 2 / 3, 1.0, 1.0)
    assert found_errors(found) == pytest.approx(expected, rel=1e-4)
    assert found['scale_ratio_median'] == pytest.approx(1.0, rel=1e-4)
    assert found['abs_rel_median_scaled'] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize('post_process', [False, True])
def test_kitti_2015(benchmark, post_process):
    """Truth beyond the cap counts, predictions end there; D1-all of all that both eyes see."""
    found = evaluate('kitti', '--split', 'kitti_2015', '--post_process',
                     str(post_process).lower(), '--matching', 'false')
    said = [disparity(i + 3, post_process) for i in range(2)]
    pairs = []
    wrong = []
    for true, d in zip(benchmark, said):
        with np.errstate(divide='ignore'):
            pairs.append((np.where(true > 0, 240 * 0.54 / true, 0), d))
        error = np.abs(true - d)[true > 0]
        wrong.append(100 * ((error >= 3) & (error >= 0.05 * true[true > 0])).mean())
    assert max(g.max() for g, _ in pairs) > 80
    assert found_errors(found['depth']) == pytest.approx(
        published_errors(pairs, WHOLE, 80.0, False), rel=2e-4)
    assert found['disparity']['network']['d1_all_percent'] == pytest.approx(
        np.mean(wrong), abs=0.01)


@pytest.mark.parametrize('options, sentence', [
    (['--split', 'egen'], "'egen' is unknown; choose eigen, eigen_benchmark or kitti_2015"),
    (['--split', 'kitti_2015', '--right_topic', '/right'], "right_topic '/right' belongs to a"),
    (['--split', 'kitti_2015'], "2 of 6 files of KITTI 2015's 200 pairs are missing"),
    (['--split', 'eigen'], "files of Eigen's test set"),
    (['--scale', 'constant'], '--scale constant has no meaning here'),
    (['--camera_height', '1.6'], '--camera_height 1.6 has no meaning here'),
    (['--pose_topic', '/pose'], '--pose_topic /pose has no meaning here')])
def test_what_cannot_be_measured_is_said(benchmark, capsys, options, sentence):
    """One sentence; no option is ignored."""
    for path in Path('kitti/training/disp_noc_0').iterdir():
        path.unlink()
    assert main(['evaluate', 'depth', 'tiny.safetensors', 'kitti', *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and sentence in error and error.count('\n') == 1


def test_what_was_trained_on_is_not_measured(benchmark, capsys):
    """The pairs of KITTI 2015 are from drives of KITTI raw; Eigen's images are, too."""
    save_model_file('tiny.safetensors', metadata(data={'train': ['2011_09_26_drive_0005_sync']}),
                    weights())
    assert main(['evaluate', 'depth', 'tiny.safetensors', 'kitti', '--split', 'kitti_2015']) == 1
    assert 'which shows images of KITTI 2015' in capsys.readouterr().err
    write_drives()
    save_model_file('tiny.safetensors', metadata(data={'train': ['2011_09_28_drive_0002_sync']}),
                    weights())
    assert main(['evaluate', 'depth', 'tiny.safetensors', 'kitti', '--split', 'eigen']) == 1
    assert "which shows images of Eigen's test split" in capsys.readouterr().err


def test_an_image_of_another_size(benchmark, capsys):
    """Its focal length would be a guess."""
    write_image(Path('kitti/training/image_2/000001_10.png'), picture(1)[:100])
    assert main(['evaluate', 'depth', 'tiny.safetensors', 'kitti', '--split', 'kitti_2015']) == 1
    assert 'has 414x100 pixels, a size that no camera of KITTI has' in capsys.readouterr().err
