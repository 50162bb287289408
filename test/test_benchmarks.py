# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmarks start, and their shared arithmetic is right."""

import json
import os
from pathlib import Path
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_geometry_model
import torch

FOLDER = Path(__file__).parents[1] / 'benchmarks'
SCRIPTS = sorted(path for path in FOLDER.glob('*.py') if '__main__' in path.read_text())


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import harness
    yield harness
    sys.modules.pop('harness')


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_help(script):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    output = subprocess.run([sys.executable, script, '--help'], env=environment, check=True,
                            capture_output=True, text=True).stdout
    assert '--rounds' in output and '--json' in output


def test_all_take_turns_and_are_timed(harness):
    order = []
    times = harness.interleave({'slow': lambda: (order.append('slow'), time.sleep(0.01)),
                                'fast': lambda: order.append('fast')}, rounds=2, calls=3)
    turns = [order[6:10], order[10:14], order[14:18], order[18:22]]
    assert turns == [['slow'] * 4, ['fast'] * 4, ['fast'] * 4, ['slow'] * 4]
    assert times['slow'].shape == times['fast'].shape == (2, 3)
    assert (times['slow'] >= 0.01).all() and (times['fast'] < 0.01).all()


def test_ratio_compares_within_rounds(harness):
    # Everything takes ten times as long in the second round, and has one slow call.
    slow = np.array([[2.0, 2.0, 90.0], [20.0, 20.0, 20.0], [2.0, 2.0, 2.0]])
    fast = np.array([[1.0, 1.0, 1.0], [10.0, 10.0, 900.0], [1.0, 1.0, 1.0]])
    assert harness.ratio(slow, fast) == 2.0


@pytest.mark.parametrize('system', ['sfmlearner', 'geonet', 'geonet_flow'])
def test_plain_steps_stand_for_ours(monkeypatch, tmp_path, system):
    from geo_perception.losses.flow import GEONET_FLOW
    from geo_perception.losses.view_synthesis import GEONET_RIGID, SFMLEARNER
    from geo_perception.training.flow import FlowModule
    from geo_perception.training.view_synthesis import ViewSynthesisModule

    monkeypatch.syspath_prepend(str(FOLDER))
    torch.manual_seed(0)
    if system == 'geonet_flow':
        from plain_flow import PlainFlowStep as Plain
        tiny_geometry_model.write_geometry_model(tmp_path / 'rigid.safetensors')
        module = FlowModule(str(tmp_path / 'rigid.safetensors'), flow_loss=GEONET_FLOW,
                            flow_arguments={'width': 0.1, 'zero_heads': False})
        for head in module.flow.predict:
            head.weight.data *= 0.1   # otherwise next to nothing is consistent
    else:
        from plain_view_synthesis import PlainStep as Plain
        module = ViewSynthesisModule(
            'dispnet_resnet50', {'width': 0.1}, size=(64, 128),
            loss=SFMLEARNER if system == 'sfmlearner' else GEONET_RIGID)
    # Motion of some pixels: with next to none rounding says what lies beyond the border.
    module.egomotion.pose[-1].bias.data[:] = torch.tensor(
        [0.4, -0.3, 0.1, 1, 2, 3, -0.5, 0.2, 0.2, -1, 2, 2])
    # Smooth, so that flow through it is as good as its rounding.
    images = torch.rand(2, 3, 3, 8, 16).mul(2).sub(1).flatten(0, 1)
    images = torch.nn.functional.interpolate(images, (64, 128), mode='bicubic').clamp(-1, 1)
    images = images.unflatten(0, (2, 3))
    K = torch.tensor([[100.0, 0, 63], [0, 90, 30], [0, 0, 1]]).expand(2, 3, 3)
    theirs = Plain(module, images, K).loss()
    terms = module.terms(images, images, K)
    assert theirs.item() == pytest.approx(terms['total'].item(), rel=1e-4)
    assert min(value.item() for value in terms.values()) > 1e-3 * theirs.item()


def test_busy_processes_end(harness):
    before = _children()
    with harness.busy_processes(2):
        children = _children() - before
        assert len(children) == 2
    assert not _children() & children


def test_a_process_that_measures_ends_with_the_benchmark(harness):
    assert harness.in_a_process_of_its_own(divmod, 7, 4) == (1, 3)
    code = ('import harness, time\nif __name__ == "__main__":\n'
            '    harness.in_a_process_of_its_own(time.sleep, 60)\n')
    benchmark = subprocess.Popen([sys.executable, '-c', code], cwd=FOLDER)
    try:
        # Beside the one that sleeps there is one that looks after shared memory.
        children = _wait_for(lambda: {
            child for child in _children(benchmark.pid) if b'spawn_main' in _words(child)})
    finally:
        benchmark.terminate()
        benchmark.wait()
    _wait_for(lambda: not any(_words(child) for child in children))


def test_threads_that_spin_are_refused(harness, monkeypatch):
    arguments = harness.argument_parser('text', rounds=3).parse_args([])
    monkeypatch.delenv('OPENBLAS_NUM_THREADS')
    with pytest.raises(SystemExit, match='or with OPENBLAS_NUM_THREADS=1$'):
        harness.Results(arguments)


def test_results_are_written(harness, tmp_path, capsys):
    path = tmp_path / 'results' / 'some.json'
    parser = harness.argument_parser('text', rounds=3)
    results = harness.Results(parser.parse_args(['--json', str(path)]))
    results.times('alone', {'step': np.array([[0.001, 0.003], [0.002, 0.002]])})
    results.target('ratio', 2.5, 2.0, at_least=True)
    results.target('delay', 2.5, 2.0)
    results.write()
    content = json.loads(path.read_text())
    assert content['times_ms']['alone']['step']['p50'] == pytest.approx(2.0)
    assert content['targets']['ratio']['met'] and not content['targets']['delay']['met']
    assert content['machine']['python']
    assert 'missed' in capsys.readouterr().out


def _wait_for(condition):
    deadline = time.monotonic() + 20.0
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def _words(process):
    try:
        return Path(f'/proc/{process}/cmdline').read_bytes()
    except OSError:
        return b''


def _children(of=None):
    return {int(stat.parent.name) for stat in Path('/proc').glob('[0-9]*/stat')
            if _parent(stat) == (of or os.getpid())}


def _parent(stat):
    try:
        return int(stat.read_text().rpartition(')')[2].split()[1])
    except OSError:
        return None
