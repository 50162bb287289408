# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Distances by a tape measure: the factor that fits them, and who takes it."""

import json
import shutil

import cv2
import numpy as np
import pytest
from stereo_world import CAMERA, write_pairs
from tiny_stereo_model import metadata, REACH, weights

from geo_perception.cli import main
from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.inference.eye_check import check_eyes
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.inference.tape_scale import (
    measure, parse_region, read_tape_scale, TapeSample, TapeScale, write_tape_scale)
from geo_perception.model_file import load_model_file, save_model_file

EXPECTED = 88 * 0.12 / (0.05 * 128)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Return a folder with a model and a recording."""
    folder = tmp_path_factory.mktemp('made')
    save_model_file(folder / 'flat.safetensors', metadata(), weights(0.05))
    write_pairs(folder / 'val', 'val', 2)
    return folder


@pytest.fixture
def model(made, tmp_path):
    """Return a copy of the model, beside which nothing lies."""
    shutil.copy(made / 'flat.safetensors', tmp_path / 'flat.safetensors')
    return tmp_path / 'flat.safetensors'


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Compile nothing."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))


def test_the_factor_is_the_geometric_mean():
    """Twice too far and twice too near cancel; what is left is told for each."""
    assert TapeScale().factor == 1.0 and TapeScale().sentence() == ''
    one = TapeScale((TapeSample(3.0, 2.0),))
    assert one.factor == pytest.approx(1.5) and 'one measured distance.' in one.sentence()
    two = TapeScale((TapeSample(2.0, 1.0), TapeSample(2.0, 4.0)))
    assert two.factor == pytest.approx(1.0)
    assert '2 measured distances, which it fits to -50.0, +100.0 %' in two.sentence()


def test_a_region_is_one_surface():
    """Its median counts; what is no surface, unknown or outside is refused."""
    depth = np.full((40, 60), 2.0, np.float32)
    depth[:, 30:] = 5.0
    assert measure(depth, 4.0, (0, 0, 10, 10)) == TapeSample(4.0, 2.0, '0,0,10,10')
    assert measure(np.full((40, 60), 3.0), 4.0, where='a.png').where == 'a.png 27,18,6,4'
    for region, distance, words in (((25, 0, 10, 10), 4.0, 'goes from 2.00 to 5.00 m'),
                                    ((55, 0, 10, 10), 4.0, 'not within the image of 60x40'),
                                    ((0, 0, 10, 10), 0.0, 'has to be above 0'),
                                    ((0, 0, 10, 10), float('nan'), 'has to be above 0')):
        with pytest.raises(ConfigurationError, match=words):
            measure(depth, distance, region)
    depth[:10, :6] = np.nan
    with pytest.raises(ConfigurationError, match='too little depth is known'):
        measure(depth, 4.0, (0, 0, 10, 10))
    assert parse_region('') is None and parse_region('1, 2,3,4') == (1, 2, 3, 4)
    for text in ('1,2,3', 'a,b,c,d'):
        with pytest.raises(ConfigurationError, match='write left,top,width,height'):
            parse_region(text)


def test_what_lies_beside_a_model(model):
    """It is of this model and no other, and in one piece."""
    loaded = load_model_file(model)
    assert read_tape_scale(loaded) == TapeScale()
    scale = TapeScale((TapeSample(2.0, 1.0, 'a'),))
    path = write_tape_scale(loaded, scale)
    assert path.name == 'flat.scale.json' and read_tape_scale(loaded) == scale
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, 'model_sha256': 'other'}))
    with pytest.raises(ModelFileError, match='measured with another model'):
        read_tape_scale(loaded)
    for text in ('{', '[]', '{"model_sha256": "a", "samples": [{"measured": 0, "predicted": 1}]}'):
        path.write_text(text)
        with pytest.raises(ModelFileError, match='delete it and calibrate again'):
            read_tape_scale(loaded)
    write_tape_scale(loaded, TapeScale())
    assert not path.exists()


def test_calibrate_and_who_takes_it(made, model, tmp_path, capsys):
    """The verb, then both pipelines, infer and evaluate."""
    image = f'{made / "val"}[1]'
    base = ['calibrate', 'scale', str(model), '--image', image, '--device', 'cpu', '--image_topic',
            '/left/image_rect', '--distance']
    assert main([*base, '3.3', '--json', str(tmp_path / 'c.json')]) == 0
    factor = 3.3 / EXPECTED
    assert json.loads((tmp_path / 'c.json').read_text())['factor'] == pytest.approx(factor, 1e-4)
    text = capsys.readouterr().out
    assert '1.650 m without correction, 3.300 m by tape' in text and 'flat.scale.json' in text
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for pipeline in (StereoDepthPipeline, GeometryPipeline):
        found = pipeline.load(model, device='cpu').depth_only(picture, CAMERA)
        np.testing.assert_allclose(found.depth, 3.3, rtol=1e-3)
    assert GeometryPipeline.load(model, device='cpu').scale().metres_per_unit == pytest.approx(
        REACH * factor)
    # A second distance does not stand upon the first.
    assert main([*base, '1.65']) == 0
    assert 'Depth is multiplied by 1.4142, by 2 measured' in capsys.readouterr().out
    assert main(['infer', str(model), str(made / 'val'), '--output', str(tmp_path / 'd'),
                 '--device', 'cpu']) == 0
    assert 'multiplied by 1.4142' in capsys.readouterr().out
    png = cv2.imread(str(tmp_path / 'd/depth_png/000001.png'), cv2.IMREAD_UNCHANGED)
    assert abs(int(png[40, 60]) - 1000 * 1.65 * 2 ** 0.5) < 3
    assert main(['evaluate', 'depth', str(model), str(made / 'val'), '--device', 'cpu']) == 0
    assert 'multiplied by 1.4142' in ' '.join(capsys.readouterr().out.split())
    assert main(['calibrate', 'scale', str(model), '--reset', 'true']) == 0
    assert read_tape_scale(load_model_file(model)) == TapeScale()


@pytest.mark.parametrize('arguments, words', [
    ([], 'give an --image and the --distance'),
    (['--image', '{val}', '--distance', '2'], 'holds 2 images'),
    (['--image', '{val}[0]'], 'the measured distance is 0.0 m'),
    (['--image', '{val}[0]', '--distance', '2', '--region', '1,2'],
     'write left,top,width,height')])
def test_calibrate_says_what_is_missing(made, model, capsys, arguments, words):
    """One sentence, and nothing is kept."""
    arguments = [word.replace('{val}', str(made / 'val')) for word in arguments]
    assert main(['calibrate', 'scale', str(model), *arguments, '--device', 'cpu']) == 1
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
    assert not model.with_suffix('.scale.json').exists()


def pair(disparity):
    """Return a wall as two eyes see it."""
    noise = np.random.default_rng(3).integers(0, 256, (60, 120, 3), np.uint8)
    wide = cv2.resize(noise, (400, 240), interpolation=cv2.INTER_CUBIC)
    return wide[:, :320], wide[:, disparity:320 + disparity]


def test_the_other_eye_tells_wrong_depth():
    """With the true disparity images fit; with half of it depth is twice as far, and is told."""
    left, right = pair(16)
    good, bad = (check_eyes(left, right, np.full((240, 320), d / 320)) for d in (16, 8))
    assert good.error < 0.02 and good.ratio == pytest.approx(1, abs=0.02)
    assert good.warning() == ''
    assert bad.error > 5 * good.error and bad.matched_error < 0.02
    assert bad.ratio == pytest.approx(2, abs=0.05)
    assert 'Depth is 2.00 times what both eyes see' in bad.warning()
    blank = check_eyes(np.full_like(left, 9), np.full_like(left, 9), np.full((240, 320), 0.05))
    assert np.isnan(blank.ratio) and blank.warning() == ''
