# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a network sees is what posenet.md section 7 says, in training and in a node alike."""

import pickle

import cv2
import numpy as np
from PIL import Image
import pytest
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.augmentation import augment, Augmentation

RNG = np.random.default_rng(0)


def picture(width, height):
    """Return coloured noise."""
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize('size, resized, offset', [
    ((1920, 1080), (455, 256), (115, 16)), ((640, 480), (341, 256), (58, 16)),
    ((480, 640), (256, 341), (16, 58)), ((256, 256), (256, 256), (16, 16)),
    ((64, 48), (341, 256), (58, 16))])
def test_sizes_and_centre_of_the_published_crop(size, resized, offset):
    """The shorter side is 256, and the crop starts at integer halves."""
    p = Preprocessing()
    assert p.resized_size(*size) == resized
    assert p.centre(*resized) == offset
    marked = np.zeros((resized[1], resized[0], 3), np.uint8)
    marked[offset[1], offset[0]] = 255
    crop = p.centre_crop(marked)
    assert crop.shape == (224, 224, 3) and crop[0, 0].all() and crop.sum() == 3 * 255


def test_a_crop_that_is_not_the_centre():
    """As far as the image reaches: what TensorFlow's port of PoseNet sees (section 7)."""
    preprocessing = Preprocessing(offset=(87, 0))
    assert preprocessing.centre(455, 256) == (87, 0)
    assert preprocessing.centre(256, 256) == (32, 0)
    image = np.arange(256 * 455 * 3, dtype=np.int64).reshape(256, 455, 3)
    assert np.array_equal(preprocessing.centre_crop(image), image[:224, 87:311])


@pytest.mark.parametrize('size', [(640, 480), (640, 360), (320, 320), (300, 400), (1, 1),
                                  (1000, 70)])
def test_wide_crop_is_never_larger_than_the_image(size):
    """An aspect nearer to square than the crop is enlarged further."""
    p = Preprocessing(short_side=224, crop=(224, 288))
    width, height = p.resized_size(*size)
    assert width >= 288 and height >= 224
    assert p.centre_crop(p.resize(picture(*size))).shape == (224, 288, 3)
    if min(size) > 50:
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)


def test_stretched_to_the_crop_whatever_the_aspect():
    """As SfMLearner does: KITTI's 1242x375 to 416x128."""
    stretched = Preprocessing(1, (128, 416), stretch=True)
    assert stretched.resized_size(1242, 375) == (416, 128)
    assert stretched.resize(np.zeros((375, 1242, 3), np.uint8)).shape == (128, 416, 3)
    assert stretched.centre(416, 128) == (0, 0)


@pytest.mark.parametrize('name, code', [
    ('lanczos', Image.LANCZOS), ('bilinear', Image.BILINEAR)])
def test_interpolations_of_pillow(name, code):
    """Antialiased: fine stripes become grey, which OpenCV's filters of these names would alias."""
    stretched = Preprocessing(1, (32, 104), interpolation=name, stretch=True)
    image = picture(414, 126)
    expected = Image.fromarray(image).resize((104, 32), code)
    np.testing.assert_array_equal(stretched.resize(image), np.asarray(expected))
    stripes = np.repeat(np.tile([0, 255], (126, 207))[..., None], 3, 2).astype(np.uint8)
    assert np.ptp(stretched.resize(stripes)[:, 4:-4].astype(int)) < 20


def test_interpolations_are_those_of_opencv():
    """They differ visibly, so each is named."""
    image = picture(640, 480)
    for name, code in (('area', cv2.INTER_AREA), ('linear', cv2.INTER_LINEAR)):
        found = Preprocessing(interpolation=name).resize(image)
        assert np.array_equal(found, cv2.resize(image, (341, 256), interpolation=code))


def test_image_of_the_right_size_is_not_touched():
    """No copy, no resampling."""
    image = picture(341, 256)
    assert Preprocessing().resize(image) is image


def test_values_by_hand():
    """Subtract, divide, channels first, in RGB."""
    p = Preprocessing(short_side=2, crop=(2, 2), mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    crop = torch.tensor([[[[11, 22, 33], [0, 0, 0]], [[255, 255, 255], [1, 2, 3]]]],
                        dtype=torch.uint8)
    x = p.normalise(crop)
    assert x.shape == (1, 3, 2, 2) and x.dtype == torch.float32
    assert x[0, :, 0, 0].tolist() == [5.0, 5.0, 3.75]
    assert x[0, :, 1, 1].tolist() == [0.0, 0.0, 0.0]
    assert x[0, :, 0, 1].tolist() == [-0.5, -0.5, -0.375]


def test_bgr_reverses_channels_and_keeps_its_mean_in_order():
    """Mean and divisor are in the order that the network sees."""
    p = Preprocessing(short_side=1, crop=(1, 1), channel_order='bgr', mean=(10.0, 20.0, 30.0),
                      std=(1.0, 2.0, 5.0))
    x = p.normalise(torch.tensor([[[[130, 120, 110]]]], dtype=torch.uint8))
    assert x[0, :, 0, 0].tolist() == [100.0, 50.0, 20.0]


def test_mean_image_is_subtracted_before_the_crop():
    """At matching pixels, wherever the crop is taken: cropping commutes with subtracting."""
    mean = RNG.uniform(0, 255, (256, 341, 3)).astype(np.float32)
    p = Preprocessing(channel_order='bgr', mean_image=mean)
    resized = p.resize(picture(640, 480))
    whole = torch.from_numpy(resized[..., ::-1].astype(np.float32) - mean).permute(2, 0, 1)
    centre = p.normalise(torch.from_numpy(p.centre_crop(resized).copy())[None])
    torch.testing.assert_close(centre[0], whole[:, 16:240, 58:282])
    offsets = [(0, 0), (117, 32), (3, 30)]
    crops = np.stack([resized[top:top + 224, left:left + 224] for left, top in offsets])
    x = p.normalise(torch.from_numpy(crops), torch.tensor(offsets))
    for i, (left, top) in enumerate(offsets):
        torch.testing.assert_close(x[i], whole[:, top:top + 224, left:left + 224])


def test_mean_image_of_another_aspect():
    """A live camera may be wider than the one of the training: nothing breaks."""
    mean = np.full((256, 341, 3), 100, np.float32)
    p = Preprocessing(mean_image=mean)
    wide = p.resize(picture(640, 360))
    crop = torch.from_numpy(wide[None, :224, 231:455])
    assert p.normalise(crop, torch.tensor([[231, 0]])).shape == (1, 3, 224, 224)
    torch.testing.assert_close(p.normalise(crop, torch.tensor([[231, 0]])), p.normalise(crop))


def test_random_crops_take_the_mean_where_they_are():
    """What training does, from augmentation to network input (pitfall 11)."""
    mean = RNG.uniform(0, 255, (40, 50, 3)).astype(np.float32)
    p = Preprocessing(short_side=40, crop=(32, 32), mean_image=mean)
    images = torch.from_numpy(np.stack([mean.round().astype(np.uint8)] * 20))
    crops, _, offset = augment(images, torch.eye(3).expand(20, 3, 3), None, (32, 32),
                               Augmentation(), torch.Generator().manual_seed(0))
    assert len({tuple(o) for o in offset.tolist()}) > 10
    assert p.normalise(crops, offset).abs().max() <= 0.5


def test_training_and_node_give_identical_tensors():
    """The centre crop of the training code and that of the pipeline (item 13)."""
    p = Preprocessing(interpolation='linear', channel_order='bgr', mean=(90.0, 100.0, 110.0))
    resized = p.resize(picture(640, 480))
    crop = np.ascontiguousarray(p.centre_crop(resized))
    node = p.normalise(torch.from_numpy(crop)[None])
    crops, _, offset = augment(torch.from_numpy(resized)[None], torch.eye(3)[None], None,
                               p.crop, Augmentation(random_crop=False))
    assert torch.equal(p.normalise(crops, offset), node)


@pytest.mark.parametrize('mean_image', [None, np.ones((256, 341, 3), np.float32)])
def test_constants_are_uploaded_once(monkeypatch, mean_image):
    """A CUDA graph cannot capture an upload; copies for other processes begin without."""
    p = Preprocessing(mean=(1.0, 1.0, 1.0), mean_image=mean_image)
    crop = torch.from_numpy(picture(224, 224))[None]
    with torch.inference_mode():
        first = p.normalise(crop)
    copy = pickle.loads(pickle.dumps(p))
    tensor = torch.tensor
    calls = []
    monkeypatch.setattr(torch, 'tensor', lambda *a, **k: calls.append(a) or tensor(*a, **k))
    assert torch.equal(p.normalise(crop), first) and not calls
    assert not p.normalise(crop).is_inference()
    assert torch.equal(copy.normalise(crop), first) and calls


@pytest.mark.parametrize('options, words', [
    ({'interpolation': 'cubic'}, 'choose area, linear, bilinear or lanczos'),
    ({'channel_order': 'grb'}, 'choose rgb or bgr'), ({'short_side': 0}, 'positive'),
    ({'crop': (0, 5)}, 'positive'), ({'std': (1.0, 0.0, 1.0)}, 'std above zero'),
    ({'offset': (-1, 0)}, 'left and the top'),
    ({'std': (1.0, float('nan'), 1.0)}, 'std above zero'), ({'mean': (1.0,)}, 'three numbers'),
    ({'mean_image': np.zeros((10, 10, 3), np.float32)}, 'smaller than the crop')])
def test_impossible_values_are_refused(options, words):
    """When they are read, not when an image comes."""
    with pytest.raises(ConfigurationError, match=words):
        Preprocessing(**options)
