# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The covariance of a relocalizer is calibrated on what its head was not trained on."""

from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
from small_training import arguments, checkpoints, empty_place, error, train, write_world

from geo_perception import model_file
from geo_perception.cli import main
from geo_perception.inference.uncertainty import Calibration, fit_calibration
from geo_perception.training import held_out
from geo_perception.training.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with drives, and a package of made-up trunk weights."""
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """Work in an empty folder, on one thread, without compiling anything."""
    with empty_place(world, tmp_path, monkeypatch) as folder:
        yield folder


def test_left_out_stretches_are_not_learned_from(world, place, monkeypatch):
    """Neither their frames nor views that show a pixel of them; every frame is left out once."""
    seen = []
    trained = held_out._trained

    def watched(module, views, rows, *others):
        seen.append((rows, views))
        return trained(module, views, rows, *others)

    monkeypatch.setattr(held_out, '_trained', watched)
    assert train(world, '--trainer.max_epochs', '1', '--data.novel_views.count', '12',
                 '--data.views', '2') == 0
    assert len(seen) == 4
    left_out = []
    for rows, views in seen:
        assert len(views.inputs) == len(views.sources) == 2 * (20 + 12)
        missing = np.setdiff1d(np.arange(20), rows)
        assert len(missing) == 5 and np.ptp(missing) == 4
        assert not np.isin(views.sources[rows], missing).any()
        # The augmented view of a frame is left out as well.
        assert not np.isin(missing + 32, rows).any()
        left_out.extend(missing)
    assert sorted(left_out) == list(range(20))


def test_covariance_is_calibrated_on_what_was_left_out(world, place, monkeypatch):
    """Heads that are far off where they were not trained make it large; validation alone not."""
    def far_off(answers):
        return replace(answers, errors=answers.errors + 5.0)

    real = held_out.held_out_answers
    monkeypatch.setattr('geo_perception.training.relocalization.held_out_answers',
                        lambda *options: far_off(real(*options)))
    floors = []
    for stretches in ('0', '4'):
        assert train(world, '--trainer.max_epochs', '1', '--model.stretches', stretches) == 0
        folder = 'version_0' if stretches == '0' else 'version_1'
        header = read_checkpoint(checkpoints(folder) / 'best.ckpt')['geo_perception']['metadata']
        calibration = Calibration(**header['calibration'])
        floors.append(np.trace(calibration.covariance(np.zeros((6, 6)), 10.0)))
    assert floors[1] > 4.0 * floors[0]


def test_validation_drive_decides_more_than_what_was_left_out(world, place, monkeypatch):
    """Of its own, four fifths; held out of the training drive, as much as any other frame."""
    seen = []
    monkeypatch.setattr('geo_perception.training.relocalization.fit_calibration',
                        lambda *options: seen.append(options) or fit_calibration(*options))
    monkeypatch.setattr('geo_perception.training.relocalization_data.SMALLEST_SPLIT', 20)
    assert train(world, '--trainer.max_epochs', '1') == 0
    options = arguments(world, '--trainer.max_epochs', '1')
    del options[4:6]
    assert main(options) == 0
    (errors, *_, drive), (fewer, *_, held_out_frames) = seen
    assert len(errors) == 6 + 20 and len(fewer) == 20
    assert drive[:6].sum() / drive.sum() == pytest.approx(0.8)
    assert np.ptp(drive[:6]) == np.ptp(drive[6:]) == 0
    assert held_out_frames == pytest.approx(np.full(20, held_out_frames[0]))


def test_recalibration_changes_the_calibration_alone(world, place, capsys):
    """In place; weights, poses and all the rest stay, and so do their answers."""
    assert train(world, '--trainer.max_epochs', '1', '--model.stretches', '0') == 0
    assert main(['export', str(checkpoints() / 'best.ckpt'), '--output', 'model', '--half']) == 0
    before = model_file.load_model_file('model')
    # As models were before there was novelty.
    old = {name: value for name, value in before.metadata.calibration.items()
           if name.startswith(('scale', 'floor', 'usual_s'))}
    model_file.save_model_file('model', replace(before.metadata, calibration=old), {
        name: value for name, value in before.tensors.items() if 'novelty' not in name})
    capsys.readouterr()
    assert train(world, '--recalibrate', 'model', '--json', 'calibration.json') == 0
    printed = capsys.readouterr().out
    after = model_file.load_model_file('model')
    assert 'power_position' in printed and printed.endswith('wrote model\n')
    assert json.loads(Path('calibration.json').read_text()) == after.metadata.calibration
    assert after.metadata.calibration != old
    assert replace(after.metadata, calibration={}) == replace(before.metadata, calibration={})
    assert before.tensors.keys() == after.tensors.keys() and 'novelty.mean' in after.tensors
    for name in before.tensors:
        if 'novelty' not in name:
            assert np.array_equal(before.tensors[name], after.tensors[name])
    # Of another network: a sentence, and the file stays.
    assert train(world, '--recalibrate', 'model', '--model.arguments', '{width: 16}') == 1
    assert 'give the --config that it was trained with' in error(capsys)
    assert model_file.load_model_file('model').sha256 == after.sha256
