# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From a model file and an image to a pose: the whole pipeline on a small network."""

import re

import cv2
import numpy as np
from numpy.testing import assert_allclose
import pytest
from tiny_model import CALIBRATION, images, network, PREPROCESSING, write_model
import torch

from geo_perception.errors import ConfigurationError, ImageError, ModelFileError
from geo_perception.evaluation.relocalization_result import RelocalizationResult
from geo_perception.evaluation.run import with_baselines
from geo_perception.geometry import se3
from geo_perception.inference.relocalizer import Relocalizer
from geo_perception.model_file import load_model_file
from geo_perception.networks.posenet import PoseNet
from geo_perception.networks.rotation import decode_rotation
from geo_perception.preprocessing import Preprocessing


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Tiny work on busy machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """Return the file of the small model."""
    return write_model(tmp_path_factory.mktemp('model') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def relocalizer(path):
    """Return the pipeline."""
    return Relocalizer.load(path, device='cpu', precision='fp32')


def without_openvino(monkeypatch):
    """Make pipelines quickly: PyTorch needs no compilation."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


def test_pose_without_samples_is_the_network_s(path, monkeypatch):
    """Resize, crop, normalise, forward, decode: nothing else happens on the way."""
    without_openvino(monkeypatch)
    plain = Relocalizer.load(path, device='cpu', samples=0)
    fix = plain(images()[0])
    crop = PREPROCESSING.centre_crop(cv2.resize(images()[0], (96, 64),
                                                interpolation=cv2.INTER_AREA))
    with torch.no_grad():
        position, rotation = network()(PREPROCESSING.normalise(torch.from_numpy(crop)[None]))
    assert_allclose(fix.T_world_camera[:3, 3], position[0], atol=1e-5)
    assert_allclose(fix.T_world_camera[:3, :3], decode_rotation(rotation, 'matrix')[0], atol=1e-5)
    floor = np.repeat([CALIBRATION['floor_position'], CALIBRATION['floor_rotation']], 3) ** 2
    assert_allclose(fix.covariance, np.diag(floor), atol=1e-12)


def test_equal_images_give_equal_answers(relocalizer, path):
    """Also after other images, and in another pipeline of the same file."""
    first, other, again = (relocalizer(images()[i]) for i in (0, 1, 0))
    second = Relocalizer.load(path, device='cpu', precision='fp32')(images()[0].copy())
    for fix in (again, second):
        assert np.array_equal(fix.T_world_camera, first.T_world_camera)
        assert np.array_equal(fix.covariance, first.covariance)
        assert (fix.score, fix.accepted, fix.reason) == (first.score, first.accepted, first.reason)
    assert np.linalg.norm(other.T_world_camera[:3, 3] - first.T_world_camera[:3, 3]) > 1e-3


def test_answer_is_a_pose_with_a_covariance(relocalizer):
    """Rigid, symmetric positive definite, with a spread between the samples."""
    for image in images():
        fix = relocalizer(image)
        R = fix.T_world_camera[:3, :3]
        assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1.0)
        assert_allclose(fix.T_world_camera[3], [0, 0, 0, 1])
        assert_allclose(fix.covariance, fix.covariance.T)
        assert np.linalg.eigvalsh(fix.covariance).min() > 0
        assert np.diag(fix.covariance)[0] > 2 * CALIBRATION['floor_position'] ** 2
        assert 0.0 <= fix.score <= 1.0 and isinstance(fix.accepted, bool)


def test_attributes_for_node_and_report(relocalizer, path):
    """World frame, model and engine in words."""
    assert relocalizer.world_frame == 'office'
    assert relocalizer.model.sha256 == load_model_file(path).sha256
    assert re.match('CPU, .*, fp32$', relocalizer.describe())
    assert relocalizer.retrieval.poses.shape == (6, 4, 4)


def test_published_frame_turns_pose_covariance_and_retrieval(tmp_path, path, monkeypatch):
    """T_map_world acts from the left, on everything."""
    without_openvino(monkeypatch)
    T = se3.make_transform(se3.matrix_from_rotation_vector([1.2, -0.4, 0.3]), [5.0, 6.0, 7.0])
    turned = Relocalizer.load(write_model(tmp_path / 'turned', T_map_world=T.tolist()),
                              device='cpu')
    plain = Relocalizer.load(path, device='cpu')
    a, b = plain(images()[2]), turned(images()[2])
    assert_allclose(b.T_world_camera, T @ a.T_world_camera, atol=1e-9)
    assert_allclose(b.covariance, se3.rotate_pose_covariance(a.covariance, T[:3, :3]), atol=1e-12)
    assert_allclose(turned.retrieval.poses, T @ plain.retrieval.poses)
    assert b.score == pytest.approx(a.score)


def test_training_images_pass_the_gate(relocalizer):
    """They look like themselves."""
    for image in images():
        fix = relocalizer(image)
        assert fix.accepted and fix.reason == '' and fix.score == 1.0


def test_gate_says_that_the_place_is_unknown(relocalizer):
    """A black image, and a picture of something else."""
    other = np.random.default_rng(5).integers(0, 256, (120, 180, 3), np.uint8)
    for image in (np.zeros((120, 180, 3), np.uint8), other):
        fix = relocalizer(image)
        assert not fix.accepted and fix.score < 0.5
        assert re.fullmatch(r'the image looks like no training image \(score 0\.\d\d, '
                            r'gate 0\.50\)', fix.reason)
        assert np.isfinite(fix.T_world_camera).all()


def test_gate_says_that_the_network_is_unsure(tmp_path, monkeypatch):
    """Where samples lie farther apart than they ever did in validation."""
    without_openvino(monkeypatch)
    calibration = {**CALIBRATION, 'usual_spread': 0.5}
    path = write_model(tmp_path / 'unsure', calibration=calibration)
    fix = Relocalizer.load(path)(images()[0])
    assert not fix.accepted
    assert re.fullmatch(r'the network is unsure: \d+\.\d\d m, \d+\.\d deg \(score 0\.\d\d, '
                        r'gate 0\.50\)', fix.reason)
    sigma = np.sqrt(np.trace(fix.covariance[:3, :3]))
    assert f'unsure: {sigma:.2f} m' in fix.reason
    open_gate = Relocalizer.load(path, gate=0.0)(images()[0])
    assert open_gate.accepted and open_gate.reason == '' and open_gate.score == fix.score


def test_covariance_grows_with_the_distance_from_the_training_features(tmp_path, path,
                                                                       monkeypatch):
    """By the power of the novelty that the calibration says; the pose stays."""
    without_openvino(monkeypatch)
    plain = Relocalizer.load(path, device='cpu')
    with torch.no_grad():
        crop = PREPROCESSING.centre_crop(cv2.resize(images()[0], (96, 64),
                                                    interpolation=cv2.INTER_AREA))
        x = network().features(PREPROCESSING.normalise(torch.from_numpy(crop)[None])).mean((2, 3))
    # So that the first image has the novelty 2 and is twice as novel as usual ones.
    mean = x[0].numpy() + np.eye(len(x[0]), dtype=np.float32)[0]
    path = write_model(
        tmp_path / 'novel', {'novelty.mean': mean, 'novelty.root': 2.0 * np.eye(len(mean))},
        calibration={**CALIBRATION, 'usual_novelty': 1.0, 'power_position': 2.0,
                     'power_rotation': 1.0})
    usual, novel = plain(images()[0]), Relocalizer.load(path, device='cpu')(images()[0])
    growth = np.repeat([4.0, 2.0], 3)
    assert_allclose(novel.covariance, usual.covariance * np.outer(growth, growth), rtol=1e-4)
    assert np.array_equal(novel.T_world_camera, usual.T_world_camera)


def test_odd_sizes_and_colours(relocalizer):
    """Grey values, one pixel, portrait, a wide strip, a window into a larger array."""
    grey = np.repeat(images()[0].mean(2, keepdims=True).astype(np.uint8), 3, 2)
    large = np.zeros((300, 400, 3), np.uint8)
    for image in (grey, np.zeros((1, 1, 3), np.uint8), images()[0][:, :37], images()[0][:15],
                  large[50:170, 20:200][:, ::-1], np.asfortranarray(images()[0]),
                  cv2.resize(images()[0], (1001, 667))):
        fix = relocalizer(image)
        assert np.isfinite(fix.T_world_camera).all() and np.isfinite(fix.covariance).all()


def test_size_of_the_image_hardly_matters(relocalizer):
    """The same view with twice the pixels is the same place."""
    fix, large = relocalizer(images()[0]), relocalizer(cv2.resize(
        images()[0], (360, 240), interpolation=cv2.INTER_CUBIC))
    assert np.linalg.norm(fix.T_world_camera[:3, 3] - large.T_world_camera[:3, 3]) < 0.05


@pytest.mark.parametrize('image', [
    np.zeros((10, 10), np.uint8), np.zeros((10, 10, 4), np.uint8), np.zeros((10, 10, 3)),
    np.zeros((0, 10, 3), np.uint8), np.zeros((10, 0, 3), np.uint8),
    np.zeros((1, 10, 10, 3), np.uint8), np.zeros((1, 60_000, 3), np.uint8)])
def test_what_is_no_image_is_refused(relocalizer, image):
    """With its shape, and without taking gigabytes."""
    with pytest.raises(ImageError, match=r'expected an RGB image|too narrow'):
        relocalizer(image)


def test_dense_crops_of_one_place(relocalizer):
    """128 windows, all the same where the image is not larger than the crop."""
    image = cv2.resize(images()[0], (96, 64), interpolation=cv2.INTER_AREA)
    dense = relocalizer.dense(image)
    plain = network()(PREPROCESSING.normalise(torch.from_numpy(image)[None]))
    assert_allclose(dense.T_world_camera[:3, 3], plain[0][0].detach(), atol=1e-4)
    floor = np.diag([CALIBRATION['floor_position'] ** 2] * 3)
    assert_allclose(dense.covariance[:3, :3], floor, atol=1e-7)


def test_dense_crops_cover_the_image(relocalizer, monkeypatch):
    """8 by 16 windows from corner to corner on a wide image, 16 by 8 on a high one."""
    for size, (rows, columns) in (((240, 100), (8, 16)), ((100, 240), (16, 8))):
        windows = []
        normalise = Preprocessing.normalise
        monkeypatch.setattr(Preprocessing, 'normalise', lambda self, crops, offset=None: (
            windows.append(offset[0].tolist()), normalise(self, crops, offset))[1])
        fix = relocalizer.dense(cv2.resize(images()[0], size))
        monkeypatch.undo()
        width, height = PREPROCESSING.resized_size(*size)
        lefts, tops = ({w[i] for w in windows} for i in (0, 1))
        assert len(windows) == 128
        assert (min(lefts), max(lefts)) == (0, width - 96)
        assert (min(tops), max(tops)) == (0, height - 64)
        assert len(lefts) == min(columns, width - 95) and len(tops) == min(rows, height - 63)
        assert np.isfinite(fix.T_world_camera).all()


def test_the_published_architecture_runs_too(tmp_path, monkeypatch):
    """PoseNet, Bayesian, quaternion output, mean image, BGR; its training heads stay away."""
    without_openvino(monkeypatch)
    torch.manual_seed(0)
    posenet = PoseNet(bayesian=True).eval()
    weights = {f'network.{name}': value.numpy() for name, value in posenet.state_dict().items()
               if not name.startswith(posenet.training_only)}
    preprocessing = Preprocessing(channel_order='bgr', interpolation='linear', mean_image=np.full(
        (256, 384, 3), 110, np.float32))
    path = write_model(
        tmp_path / 'posenet', {**{f'network.{name}': None for name in network().state_dict()},
                               **weights},
        architecture='posenet', arguments={'bayesian': True, 'rotation_width': 4},
        rotation='quaternion', preprocessing=preprocessing)
    fix = Relocalizer.load(path, samples=4)(images()[0])
    R = fix.T_world_camera[:3, :3]
    assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert np.trace(fix.covariance) > 0.01


def test_model_that_knows_no_training_images(tmp_path):
    """As imported ones: the score is that of the spread, and there is no retrieval to beat."""
    path = write_model(tmp_path / 'm', {'retrieval.poses': None, 'retrieval.thumbnails': None})
    relocalizer = Relocalizer.load(path, samples=4)
    assert relocalizer.retrieval is None
    noise = np.random.default_rng(0).integers(0, 255, (120, 180, 3), np.uint8)
    assert relocalizer(noise).score == 1.0
    result = RelocalizationResult.unanswered([0, 1], ['0', '1'])
    assert with_baselines(result, [], relocalizer.retrieval) is result


@pytest.mark.parametrize('changes, words', [
    ({'architecture': 'alexnet'}, 'architecture "alexnet" is unknown'),
    ({'arguments': {'depth': 3}}, 'depth'),
    ({'arguments': {'input_size': [65, 96]}}, 'multiples of 32'),
    ({'rotation': 'quaternion'}, 'rotation as quaternion'),
    ({'rotation': 'euler'}, 'rotation as euler'),
    ({'preprocessing': Preprocessing(short_side=64, crop=(64, 64))}, 'crops images to'),
    ({'calibration': {'luck': 1.0}}, 'unknown calibration'),
    ({'calibration': {'floor_position': 0.0}}, 'not finite and positive'),
    ({'calibration': {'usual_spread': float('nan')}}, 'not finite and positive'),
    ({'changed_tensors': {'network.hidden.bias': None}}, 'hidden.bias should be .* found None'),
    ({'changed_tensors': {'network.hidden.bias': np.zeros(3, np.float32)}}, r'found \(3,\)'),
    ({'changed_tensors': {'network.hidden.bias': np.full(16, np.nan, np.float32)}}, 'NaN'),
    ({'changed_tensors': {'network.hidden.bias': np.full(16, np.inf, np.float16)}}, 'NaN'),
    ({'changed_tensors': {'retrieval.poses': None}}, r'poses \(0,\)'),
    ({'changed_tensors': {'retrieval.thumbnails': np.zeros((6, 3))}}, r'thumbnails \(6, 3\)'),
    ({'changed_tensors': {'retrieval.thumbnails': np.zeros((5, 24, 32))}}, 'export it again')])
def test_models_that_cannot_work_are_refused(tmp_path, monkeypatch, changes, words):
    """When they are loaded, with what is wrong, not on the first image."""
    without_openvino(monkeypatch)
    with pytest.raises(ModelFileError, match=words) as error:
        Relocalizer.load(write_model(tmp_path / 'model', **changes))
    assert '\n' not in str(error.value)


def test_model_for_another_job_is_refused(tmp_path):
    """It may be a perfectly good one."""
    with pytest.raises(ModelFileError, match='is for depth, not for relocalization'):
        Relocalizer.load(write_model(tmp_path / 'model', job='depth'))


@pytest.mark.parametrize('options, words', [
    ({'samples': -3}, 'samples is -3'), ({'samples': 1}, 'one sample has no spread'),
    ({'threads': -1}, 'threads is -1'), ({'precision': 'int4'}, 'precision "int4"'),
    ({'device': 'tpu'}, 'device "tpu" is unknown')])
def test_impossible_options_are_refused(path, options, words):
    """They come from parameters and the command line."""
    with pytest.raises(ConfigurationError, match=words):
        Relocalizer.load(path, **options)
