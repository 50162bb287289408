# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From a model trained on stereo pairs to metric depth: pipeline, verbs, measurements."""

import csv
from dataclasses import replace
import json

import cv2
import numpy as np
import pytest
from stereo_world import CAMERA, write_pairs
from tiny_stereo_model import metadata, PREPROCESSING, weights
import torch

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.evaluation.stereo_run import d1_wrong, DisparityScores
from geo_perception.geometry.block_matching import block_matching
from geo_perception.inference.depth_cleaning import clean_depth, CleaningOptions
from geo_perception.inference.stereo_depth import (
    blend, left_share, StereoDepthEstimate, StereoDepthPipeline)
from geo_perception.model_file import load_model_file, ModelFile, save_model_file


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with models and a recording."""
    folder = tmp_path_factory.mktemp('stereo_depth')
    save_model_file(folder / 'flat.safetensors', metadata(), weights(0.05))
    save_model_file(folder / 'random.safetensors', metadata(), weights())
    write_pairs(folder / 'val', 'val', 3)
    return folder


@pytest.fixture
def picture():
    """Return an image of the rig's left camera."""
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def test_post_processing_to_the_published_numbers():
    """Ramps of a tenth of the width: the left one from the mirrored pass (section 19.4)."""
    left = left_share(21)
    direct, mirrored = torch.linspace(0.1, 0.3, 21), torch.linspace(0.3, 0.1, 21)
    expected = np.full(21, 0.2)
    expected[[0, 1, 19, 20]] = 0.30, 0.29, 0.29, 0.30
    np.testing.assert_allclose(blend(direct, mirrored, left), expected, atol=1e-6)
    result = blend(torch.full((21,), 1.0), torch.full((21,), 2.0), left)
    assert [result[i].item() for i in (0, 10, 20)] == pytest.approx([2.0, 1.5, 1.0])


@pytest.mark.parametrize('post_process', [False, True])
def test_depth_is_reach_over_disparity(place, picture, post_process):
    """At the resolution of the image, with intrinsics that fit, and in metres."""
    pipeline = StereoDepthPipeline.load(place / 'flat.safetensors', device='cpu',
                                        precision='fp32', post_process=post_process)
    assert pipeline.baseline == pytest.approx(0.12)
    estimate = pipeline(picture, CAMERA)
    assert estimate.metric and estimate.warning == ''
    assert estimate.depth.shape == estimate.confidence.shape == (96, 128)
    np.testing.assert_allclose(estimate.depth, 88 * 0.12 / (0.05 * 128), rtol=1e-4)
    np.testing.assert_allclose(estimate.camera.K, CAMERA.K, atol=1e-6)
    np.testing.assert_allclose(estimate.confidence, 1.0, atol=1e-3)
    unknown = pipeline(picture, None)
    assert not unknown.metric and unknown.camera is None
    np.testing.assert_allclose(unknown.depth, estimate.depth, rtol=1e-5)


def test_another_camera_is_rescaled_and_doubted(place, picture):
    """Twice the focal length sees the same picture of a world twice as far."""
    pipeline = StereoDepthPipeline.load(place / 'flat.safetensors', device='cpu',
                                        precision='fp32', scale=1.5)
    K = CAMERA.K * [[2.0], [2.0], [1.0]]
    K[:2, 2] = CAMERA.K[:2, 2]
    estimate = pipeline(picture, replace(CAMERA, K=K))
    np.testing.assert_allclose(estimate.depth, 1.5 * 2 * 88 * 0.12 / (0.05 * 128), rtol=1e-4)
    assert '2.00 (across) and 2.00 (down) times' in estimate.warning
    with pytest.raises(ConfigurationError, match='"squint" is unknown; choose resize or'):
        StereoDepthPipeline.load(place / 'flat.safetensors', camera_policy='squint')
    larger = cv2.resize(picture, (256, 192))
    assert pipeline(larger, CAMERA.resized(256, 192)).warning == ''


def camera_like_training(zoom, width=128, height=96, shift=(0, 0)):
    """Return a camera that shows things so many times larger than the one of training."""
    K = CAMERA.K * [[zoom], [zoom], [1.0]]
    K[:2, 2] = zoom * (CAMERA.K[:2, 2] + 0.5) - 0.5 + shift
    return replace(CAMERA, K=K, width=width, height=height)


def test_canonical_crop_sees_what_the_training_camera_saw(place):
    """Of a wide camera: the depth of the window by itself, wherever the window is."""
    image = np.random.default_rng(1).integers(0, 256, (120, 200, 3), np.uint8)
    crops, resizes = (StereoDepthPipeline.load(
        place / 'random.safetensors', device='cpu', precision='fp32', camera_policy=policy)
        for policy in ('canonical_crop', 'resize'))
    found = crops(image, camera_like_training(0.75, 200, 120, (60, 20)))
    expected = resizes(np.ascontiguousarray(image[20:92, 60:156]),
                       camera_like_training(0.75, 96, 72))
    np.testing.assert_array_equal(found.depth, expected.depth)
    np.testing.assert_allclose(found.camera.K, expected.camera.K, atol=1e-9)
    assert found.warning == expected.warning and found.depth.shape == (72, 96)
    assert not crops(image, None).metric


def test_canonical_crop_beyond_the_image(place, picture):
    """A little of it is unknown; of a camera that sees half as much the whole image is taken."""
    pipeline = StereoDepthPipeline.load(place / 'flat.safetensors', device='cpu',
                                        precision='fp32', camera_policy='canonical_crop')
    found = pipeline(picture, camera_like_training(1.125, shift=(-8, -6)))
    assert found.depth.shape == (108, 144) and found.warning == ''
    known = np.zeros((108, 144), bool)
    known[6:102, 8:136] = True
    np.testing.assert_array_equal(np.isfinite(found.depth), known)
    np.testing.assert_allclose(found.depth[known], 88 * 0.12 / (0.05 * 128), rtol=1e-4)
    assert not found.confidence[~known].any() and np.isnan(found.disparity[~known]).all()
    whole = pipeline(picture, camera_like_training(2.0, shift=(-64, -48)))
    np.testing.assert_allclose(whole.depth, 2 * 88 * 0.12 / (0.05 * 128), rtol=1e-4)
    assert 'so that it could not be cut out' in whole.warning


def test_post_processing_is_both_passes(place, picture):
    """In one batch, what two runs give; the mirrored one is mirrored back."""
    models = [StereoDepthPipeline.load(place / 'random.safetensors', device='cpu',
                                       precision='fp32', post_process=p) for p in (False, True)]
    camera = replace(CAMERA, K=np.array([[88.0, 0, 63.5], [0, 88.0, 47.5], [0, 0, 1]]))
    plain, both = (model(picture, camera) for model in models)
    mirrored = models[0](picture[:, ::-1].copy(), camera).disparity[:, ::-1]
    middle = slice(16, 112)
    np.testing.assert_allclose(both.disparity[:, middle],
                               0.5 * (plain.disparity + mirrored)[:, middle], atol=1e-4)
    np.testing.assert_allclose(both.disparity[:, :5], mirrored[:, :5], atol=1e-4)
    np.testing.assert_allclose(both.disparity[:, -5:], plain.disparity[:, -5:], atol=1e-4)
    assert 0 <= both.confidence.min() < 0.9 and plain.confidence.min() < 0.9


def test_a_crop_of_the_image(place, picture):
    """Where the aspect is kept, depth is of the part that the network sees."""
    model = load_model_file(place / 'flat.safetensors')
    pipeline = StereoDepthPipeline(ModelFile(
        replace(model.metadata, preprocessing=replace(PREPROCESSING, stretch=False)),
        model.tensors, model.sha256, model.path), device='cpu')
    estimate = pipeline(picture, CAMERA)
    # 128 x 96, cut to 128 x 64.
    assert estimate.depth.shape == (64, 128)
    assert estimate.camera.K[1, 2] == pytest.approx(47.6 - 16)


@pytest.mark.parametrize('others, words', [
    ({'calibration': {}}, 'which rig'), ({'training_camera': None}, 'which rig'),
    ({'arguments': {}}, 'how its network is built'),
    ({'preprocessing': replace(PREPROCESSING, crop=(60, 128))}, 'multiples of 64'),
    ({'architecture': 'dispnet_vgg'}, 'cannot be used')])
def test_a_header_that_lacks_something(place, others, words):
    """One sentence at load, nothing later."""
    model = load_model_file(place / 'flat.safetensors')
    with pytest.raises(ModelFileError, match=words):
        StereoDepthPipeline(replace(model, metadata=metadata(**others)), device='cpu')


def test_what_is_no_surface():
    """Limits become infinite, edges, borders and doubt unknown; the rest stays."""
    depth = np.full((4, 40), 2.0, np.float32)
    depth[:, 20:] = 5.0
    depth[0, 30], depth[0, 35] = 0.1, 90.0
    confidence = np.ones((4, 40), np.float32)
    confidence[3, 10] = 0.2
    estimate = StereoDepthEstimate(depth, CAMERA, True, None, confidence)
    plain = clean_depth(estimate, CleaningOptions(0.5, 80.0))
    assert plain[0, 30] == -np.inf and plain[0, 35] == np.inf and not np.isnan(plain).any()
    cleaned = clean_depth(estimate, CleaningOptions(
        0.5, 80.0, edge=0.1, least_confidence=0.5, left_border=True))
    assert np.isnan(cleaned[2:, 19:21]).all() and np.isnan(cleaned[:, :2]).all()
    assert np.isnan(cleaned[3, 10]) and np.isnan(cleaned[1, 30])
    kept = np.ones(depth.shape, bool)
    kept[:, :2] = kept[:, 19:21] = kept[3, 10] = False
    kept[:2, 29:37] = False
    assert np.array_equal(cleaned[kept], depth[kept]) and depth[0, 30] == np.float32(0.1)


def test_d1_by_the_published_example():
    """Three pixels and five percent (section 19.4)."""
    truth = np.array([10, 50, 100, 5, 80.0])
    predicted = np.array([13, 54, 104, 5.1, 75])
    assert d1_wrong(np.abs(truth - predicted), truth).mean() == 0.6
    scores = DisparityScores()
    scores.add(predicted, truth)
    scores.add(np.full(5, np.nan), truth)
    assert scores.summary() == {'images': 1, 'd1_all_percent': 60.0, 'off_px': pytest.approx(
        3.22), 'coverage': 1.0}
    assert DisparityScores().summary()['d1_all_percent'] is None


def test_block_matching_finds_the_true_disparity():
    """On a plane with texture, all but what one eye sees."""
    wide = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    wide = cv2.GaussianBlur(wide, (0, 0), 1.5)
    found = block_matching(np.ascontiguousarray(wide[:, :100]),
                           np.ascontiguousarray(wide[:, 9:109]), 16)
    assert np.nanmedian(found) == pytest.approx(9, abs=0.1)
    assert np.isfinite(found[5:-5, 20:80]).mean() > 0.8 and np.isnan(found[:, :5]).all()


def test_block_matching_believes_nothing_beyond_the_border():
    """What is black, as the lens of a dirty camera, matches the black that is not there."""
    wide = np.random.default_rng(0).integers(0, 256, (60, 160, 3), np.uint8)
    wide = cv2.GaussianBlur(wide, (0, 0), 1.5)
    left = wide[:, :120].copy()
    left[:, :31] = 0
    found = block_matching(left, np.ascontiguousarray(wide[:, 9:129]), 32)
    columns = np.broadcast_to(np.arange(120), found.shape)[np.isfinite(found)]
    assert (found[np.isfinite(found)] <= columns).all() and len(columns) > 1000


def test_evaluate_depth_measures_metres_and_disparity(place, tmp_path, capsys):
    """Without any scaling, D1-all, and block matching beside it."""
    assert main(['evaluate', 'depth', str(place / 'flat.safetensors'), str(place / 'val'),
                 '--json', str(tmp_path / 'm.json'), '--post_process', 'true', '--device',
                 'cpu']) == 0
    found = json.loads((tmp_path / 'm.json').read_text())
    assert found['depth']['images_scored'] == 3 and found['depth']['abs_rel'] > 0.05
    network, matched = found['disparity']['network'], found['disparity']['sgbm']
    assert network['images'] == 3 and network['coverage'] == 1.0
    assert matched['off_px'] < network['off_px'] and 0.3 < matched['coverage'] < 1
    text = capsys.readouterr().out
    assert 'D1-all' in text and 'SGBM, both eyes' in text


def test_infer_writes_metres(place, tmp_path, capsys):
    """The same files as from other depth, and no trajectory."""
    output = tmp_path / 'depth'
    assert main(['infer', str(place / 'flat.safetensors'), str(place / 'val'), '--output',
                 str(output), '--post_process', 'true', '--device', 'cpu']) == 0
    png = cv2.imread(str(output / 'depth_png/000001.png'), cv2.IMREAD_UNCHANGED)
    assert png.dtype == np.uint16 and abs(int(png[40, 60]) - 1650) < 3
    assert np.load(output / 'depth_npy/000001.npy').shape == (96, 128)
    assert json.loads((output / 'camera.json').read_text())['fx'] == pytest.approx(88)
    assert len((output / 'frames.csv').read_text().splitlines()) == 4
    assert not list(output.glob('trajectory*')) and '3 depths (metres)' in capsys.readouterr().out


def test_infer_counts_what_is_known(place, tmp_path, capsys):
    """The median is of the known part of a view; a covered lens has no depth, and no files."""
    pictures, output = tmp_path / 'pictures', tmp_path / 'depth'
    pictures.mkdir()
    seen = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for name, image in (('0.png', seen), ('1.png', np.full_like(seen, 4))):
        cv2.imwrite(str(pictures / name), image)
    camera = camera_like_training(1.125, shift=(-8, -6))
    (pictures / 'cam.txt').write_text(' '.join(str(number) for number in camera.K.ravel()))
    assert main(['infer', str(place / 'flat.safetensors'), str(pictures), '--output', str(output),
                 '--camera_policy', 'canonical_crop', '--device', 'cpu']) == 0
    assert '2 images: 1 depths (metres), 0 unreadable' in capsys.readouterr().out
    first, second = csv.DictReader((output / 'frames.csv').read_text().splitlines())
    assert float(first['depth_median']) == pytest.approx(88 * 0.12 / (0.05 * 128), abs=1e-3)
    assert second['depth_median'] == '' and 'lens is covered' in second['warning']
    assert [path.name for path in (output / 'depth_npy').iterdir()] == ['000000.npy']


def test_prepare_stereo(place, tmp_path, capsys):
    """Measurements and a verdict; a hopeless rig ends with an error unless forced."""
    assert main(['prepare', 'stereo', str(place / 'val'), '--json', str(tmp_path / 'r.json')]) == 0
    assert 'The rig is good.' in capsys.readouterr().out
    assert json.loads((tmp_path / 'r.json').read_text())['faults'] == []
    write_pairs(tmp_path / 'swapped', 'val', 3, lambda left, right: (right, left))
    arguments = ['prepare', 'stereo', str(tmp_path / 'swapped')]
    assert main(arguments) == 1
    assert 'the eyes are swapped' in capsys.readouterr().err
    assert main([*arguments, '--force', 'true']) == 0


@pytest.mark.parametrize('constant, words', [
    (0.2999, '100 % of the image is nearer than the network can say (0.27 m'),
    (1e-4, 'Disparity is next to nothing in the whole image')])
def test_an_end_of_the_range_is_told(tmp_path, picture, constant, words):
    """A network that is dead or saturated says the same for all images, and is not believed."""
    save_model_file(tmp_path / 'end.safetensors', metadata(), weights(constant))
    pipeline = StereoDepthPipeline.load(tmp_path / 'end.safetensors', device='cpu',
                                        precision='fp32')
    assert words in pipeline(picture, CAMERA).warning


def test_a_covered_lens_has_no_depth(place):
    """Nothing is known, and why is said."""
    pipeline = StereoDepthPipeline.load(place / 'flat.safetensors', device='cpu')
    estimate = pipeline(np.full((96, 128, 3), 4, np.uint8), CAMERA)
    assert np.isnan(estimate.depth).all() and not estimate.confidence.any()
    assert 'lens is covered' in estimate.warning and estimate.camera.width == 128
