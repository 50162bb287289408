# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Model files come back as they were written; whatever else is there gets one clear sentence."""

import json
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors
from tiny_model import metadata, write_model
import torch

from geo_perception.errors import ConfigurationError, ModelFileError, OutputError
from geo_perception.model_file import HEADER_KEY, load_model_file, save_model_file, TrainingCamera
from geo_perception.preprocessing import Preprocessing

TENSORS = {'network.a': np.arange(6, dtype=np.float16).reshape(2, 3),
           'network.b': np.array(3.5, np.float32), 'retrieval.poses': np.eye(4)[None]}


@pytest.fixture
def written(tmp_path):
    """Return a small file, whose network does not matter here."""
    path = tmp_path / 'office.safetensors'
    save_model_file(path, metadata(), TENSORS)
    return path


def with_header(path, change):
    """Write the file again with our part of its header changed."""
    data = path.read_bytes()
    size = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + size])
    header['__metadata__'][HEADER_KEY] = json.dumps(
        change(json.loads(header['__metadata__'][HEADER_KEY])))
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + data[8 + size:])
    return path


def sentence(path, job=None):
    """Return the one line that a person reads."""
    with pytest.raises(ModelFileError) as error:
        load_model_file(path, job)
    assert '\n' not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


def test_everything_comes_back(written):
    """Header, numbers with their types, hash and path."""
    loaded = load_model_file(written, 'relocalization')
    assert loaded.metadata.world_frame == 'office'
    assert loaded.metadata.training_camera == TrainingCamera(180, 120, 150.0, 150.0, 89.5, 59.5)
    assert loaded.metadata.preprocessing == metadata().preprocessing
    assert loaded.metadata.calibration == metadata().calibration
    assert np.array_equal(loaded.metadata.T_map_world, np.eye(4))
    assert set(loaded.tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert loaded.tensors[name].dtype == value.dtype
        assert np.array_equal(loaded.tensors[name], value)
    assert set(loaded.weights()) == {'a', 'b'}
    assert loaded.weights()['a'].dtype == np.float32
    assert re.fullmatch('[0-9a-f]{64}', loaded.sha256) and loaded.path == str(written)


def test_mean_image_and_unknown_camera_come_back(tmp_path):
    """The mean image is a tensor in the file and part of the preprocessing outside."""
    mean = np.random.default_rng(0).uniform(0, 255, (70, 100, 3)).astype(np.float32)
    preprocessing = Preprocessing(short_side=70, crop=(64, 96), mean_image=mean, offset=(3, 1))
    path = tmp_path / 'model'
    save_model_file(path, metadata(preprocessing=preprocessing, training_camera=None), TENSORS)
    loaded = load_model_file(path)
    assert np.array_equal(loaded.metadata.preprocessing.mean_image, mean)
    assert loaded.metadata.preprocessing.offset == (3, 1)
    assert loaded.metadata.training_camera is None and set(loaded.tensors) == set(TENSORS)


def test_same_content_is_the_same_file(tmp_path, written):
    """Hashes tell models apart, so they must not change on their own."""
    other = tmp_path / 'other'
    save_model_file(other, metadata(), TENSORS)
    assert load_model_file(other).sha256 == load_model_file(written).sha256
    save_model_file(other, metadata(world_frame='hall'), TENSORS)
    assert load_model_file(other).sha256 != load_model_file(written).sha256


@pytest.mark.parametrize('length', range(0, 257, 8))
def test_no_length_of_the_header_looks_like_a_pickle(tmp_path, length):
    """The first byte of a file is the low byte of that length, and may be anything."""
    path = tmp_path / 'model'
    save_model_file(path, metadata(data={'train': 'x' * length}), TENSORS)
    assert load_model_file(path).metadata.data['train'] == 'x' * length


def test_no_path_and_no_file(tmp_path):
    """An empty parameter says what to set."""
    assert 'no model file was given' in sentence('')
    assert 'No such file' in sentence(tmp_path / 'nothing')
    assert 'directory' in sentence(tmp_path)


def test_pickles_are_recognised_and_never_loaded(tmp_path):
    """A bare pickle, what torch.save makes, and a zip; none of them runs."""
    class Bomb:

        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'exploded'),)

    paths = [tmp_path / name for name in ('a.pkl', 'b.pth', 'c.zip', 'd.ckpt')]
    paths[0].write_bytes(pickle.dumps(Bomb()))
    torch.save({'state_dict': Bomb()}, paths[1])
    with zipfile.ZipFile(paths[2], 'w') as archive:
        archive.writestr('a', 'b')
    torch.save(Bomb(), paths[3], _use_new_zipfile_serialization=False)
    for path in paths:
        assert 'a pickle' in sentence(path) and 'geo_perception export' in sentence(path)
    assert not (tmp_path / 'exploded').exists()


def test_truncated_anywhere(written, tmp_path):
    """An interrupted copy is noticed at every length."""
    data = written.read_bytes()
    lengths = {*range(12), *np.linspace(12, len(data) - 1, 60).astype(int).tolist(),
               len(data) - 1, len(data) - 2}
    for length in lengths:
        path = tmp_path / 'part'
        path.write_bytes(data[:length])
        sentence(path)
    assert 'truncated' in sentence(path) or 'damaged' in sentence(path)


def test_garbage(tmp_path):
    """Noise, text, an image, a header of absurd length."""
    random = np.random.default_rng(0)
    for content in (random.bytes(10_000), b'\0' * 100, b'#!/bin/sh\n' * 10,
                    b'\x89PNG\r\n\x1a\n' + random.bytes(100),
                    struct.pack('<Q', 2 ** 60) + b'{' + random.bytes(50),
                    struct.pack('<Q', 20) + b'{' + random.bytes(50)):
        path = tmp_path / 'file'
        path.write_bytes(content)
        assert 'model file' in sentence(path)


def test_damaged_bytes_never_give_anything_but_a_sentence(written, tmp_path):
    """One byte of the header changed, in many places: it loads, or says why not."""
    data = written.read_bytes()
    random = np.random.default_rng(1)
    path = tmp_path / 'damaged'
    for _ in range(200):
        damaged = bytearray(data)
        damaged[random.integers(0, 1200)] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            load_model_file(path)
        except ModelFileError as error:
            assert '\n' not in str(error)


def test_large_foreign_file_is_not_read(tmp_path):
    """A recording given by mistake: refused by its first bytes, whatever its size."""
    path = tmp_path / 'drive.mcap'
    with open(path, 'wb') as file:
        file.write(b'\x89MCAP0\r\n')
        file.truncate(1 << 40)   # a hole of a terabyte, read nowhere
    assert 'not a geo_perception model file' in sentence(path)


def test_safetensors_of_another_program(tmp_path):
    """With and without metadata of their own."""
    for meta in (None, {'format': 'pt'}, {HEADER_KEY: '{}'}):
        path = tmp_path / 'other.safetensors'
        path.write_bytes(save_safetensors({'weight': np.zeros(3)}, meta))
        assert f'lacks the key "{HEADER_KEY}"' in sentence(path)


def test_other_version_and_other_job(written):
    """Each says what it is and what was wanted."""
    assert 'is for relocalization, not for depth' in sentence(written, 'depth')
    newer = with_header(written, lambda h: {**h, 'format_version': 7})
    assert 'format version 7' in sentence(newer) and 'update geo_perception' in sentence(newer)


@pytest.mark.parametrize('change, words', [
    (lambda h: [1, 2], 'damaged'), (lambda h: 'text', 'damaged'), (lambda h: {}, 'lacks'),
    (lambda h: {k: v for k, v in h.items() if k != 'rotation'}, 'rotation'),
    (lambda h: {k: v for k, v in h.items() if k != 'preprocessing'}, 'preprocessing'),
    (lambda h: {**h, 'novelty': 1}, 'novelty'), (lambda h: {**h, 'world_frame': 5}, 'world_frame'),
    (lambda h: {**h, 'arguments': [1]}, 'arguments'),
    (lambda h: {**h, 'architecture': ['posenet']}, 'architecture'),
    (lambda h: {**h, 'preprocessing': 3}, 'incomplete or unknown'),
    (lambda h: {**h, 'preprocessing': {**h['preprocessing'], 'crop': 'ab'}}, 'unknown'),
    (lambda h: {**h, 'preprocessing': {**h['preprocessing'], 'std': [1, 0, 1]}}, 'std'),
    (lambda h: {**h, 'preprocessing': {**h['preprocessing'], 'interpolation': 'x'}}, '"x"'),
    (lambda h: {**h, 'training_camera': {'width': 3}}, 'incomplete'),
    (lambda h: {**h, 'training_camera': {**h['training_camera'], 'fx': 0.0}}, 'not positive'),
    (lambda h: {**h, 'T_map_world': [[1, 2], [3, 4]]}, '4x4'),
    (lambda h: {**h, 'T_map_world': (2 * np.eye(4)).tolist()}, 'not a rotation'),
    (lambda h: {**h, 'T_map_world': 'up'}, 'unknown')])
def test_damaged_header(written, change, words):
    """Refused when it is read, not when an image comes."""
    assert words in sentence(with_header(written, change))


@pytest.mark.parametrize('depth', [10, 100_000])
def test_header_of_endless_nesting(tmp_path, depth):
    """JSON that no parser can take."""
    text = json.dumps({'__metadata__': {HEADER_KEY: '[' * depth + ']' * depth}}).encode()
    path = tmp_path / 'deep'
    path.write_bytes(struct.pack('<Q', len(text)) + text)
    assert 'damaged' in sentence(path)


def test_write_is_all_or_nothing(tmp_path, monkeypatch, written):
    """On a full disk the old file stays, and nothing is left beside it."""
    before = written.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    for name in ('fsync', 'replace'):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OutputError, match=f'cannot write {written}: No space left'):
                save_model_file(written, metadata(world_frame='hall'), TENSORS)
        assert written.read_bytes() == before
        assert os.listdir(tmp_path) == [written.name]


def test_mean_image_that_does_not_fit_is_refused(tmp_path):
    """Its crop would be empty."""
    with pytest.raises(ConfigurationError, match='smaller than the crop'):
        Preprocessing(mean_image=np.zeros((64, 64, 3), np.float32))


def test_tiny_model_is_a_model_file(tmp_path):
    """What the other tests use."""
    loaded = load_model_file(write_model(tmp_path / 'tiny'), 'relocalization')
    assert {'retrieval.thumbnails', 'retrieval.poses'} < set(loaded.tensors)
