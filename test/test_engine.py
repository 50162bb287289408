# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The engine answers as PyTorch does, on the device that was asked for or not at all."""

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from geo_perception.errors import ConfigurationError
import geo_perception.inference.engine as engine_module
from geo_perception.inference.engine import Engine, resolve_device


def has_bf16():
    """Tell whether OpenVINO is installed and the processor has instructions for bf16."""
    if importlib.util.find_spec('openvino') is None:
        return False
    import openvino

    return 'BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


OPENVINO = pytest.mark.skipif(importlib.util.find_spec('openvino') is None,
                              reason='openvino is not installed')
BF16 = pytest.mark.skipif(not has_bf16(), reason='OpenVINO has no fast bf16 here')
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')


class Small(nn.Module):
    """Takes uint8 images, as pipelines do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.linear = nn.Linear(8, 5)

    def forward(self, images):
        """Return five numbers an image."""
        x = images.permute(0, 3, 1, 2).float() / 255
        return self.linear(torch.relu(self.conv(x)).mean((2, 3)))


class Delicate(Small):
    """Small differences of large numbers: too much for 8 bits of mantissa."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.conv.weight -= self.conv.weight.mean((1, 2, 3), keepdim=True)

    def forward(self, images):
        """Return what `Small` returns, but for rounding."""
        x = images.permute(0, 3, 1, 2).float() / 255 + 50
        return self.linear(torch.relu(self.conv(x)).mean((2, 3)))


def pictures(n=3):
    """Return batches of one image."""
    return np.random.default_rng(0).integers(0, 256, (n, 1, 16, 20, 3), np.uint8)


def without_openvino(monkeypatch):
    """Make the next engine think that it is not installed."""
    monkeypatch.setitem(sys.modules, 'openvino', None)


@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-5), ('bf16', 0.05)])
@pytest.mark.parametrize('backend', ['PyTorch', pytest.param('OpenVINO', marks=OPENVINO)])
def test_answers_equal_the_module(monkeypatch, backend, precision, tolerance):
    """For every backend, on images it was not made with; results are 32 bits and their own."""
    if backend == 'PyTorch':
        without_openvino(monkeypatch)
    module = Small()
    engine = Engine(module, np.zeros((1, 16, 20, 3), np.uint8), 'cpu', precision)
    assert engine.describe().startswith(f'CPU, {backend}')
    assert engine.describe().endswith(precision)
    results = [engine(image) for image in pictures()]
    for image, result in zip(pictures(), results):
        with torch.no_grad():
            expected = module(torch.from_numpy(image))
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, expected, atol=tolerance, rtol=tolerance)


@OPENVINO
def test_inputs_are_read_again_each_time():
    """The input is shared with the library, not remembered by it."""
    engine = Engine(Small(), pictures()[0], 'cpu', 'fp32')
    first = engine(pictures()[0])
    kept = first.clone()
    assert not torch.equal(engine(pictures()[1]), kept)
    assert torch.equal(first, kept)
    assert torch.equal(engine(pictures()[0]), kept)


@OPENVINO
def test_engine_that_is_wrong_is_not_believed(monkeypatch, caplog):
    """A result off by more than rounding falls back to PyTorch, with a warning."""
    convert = engine_module._openvino_graph
    wrong = Small()
    nn.init.constant_(wrong.linear.weight, 1.0)

    monkeypatch.setattr(engine_module, '_openvino_graph',
                        lambda module, example: convert(wrong, example))
    module = Small()
    for precision in ('auto', 'fp32', 'bf16'):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            engine = Engine(module, pictures()[0], 'cpu', precision)
        assert re.search(r'\((fp32|bf16) is off by .* %\); using PyTorch', caplog.text)
        assert engine.describe() == 'CPU, PyTorch, ' + precision.replace('auto', 'fp32')
    engine = Engine(module, pictures()[0], 'cpu', 'fp32')
    torch.testing.assert_close(engine(pictures()[1]), module(torch.from_numpy(pictures()[1])))


@BF16
def test_auto_takes_32_bits_where_16_are_too_few(caplog):
    """Of the same library, and the description says why; who asks for 16 bits gets them."""
    with caplog.at_level(logging.WARNING):
        engine = Engine(Delicate(), pictures()[0], 'cpu')
        assert re.fullmatch(r'CPU, OpenVINO [0-9.]+, fp32 \(bf16 is off by [0-9.]+ %\)',
                            engine.describe())
        image = pictures()[1]
        torch.testing.assert_close(engine(image), Delicate()(torch.from_numpy(image)))
        engine = Engine(Delicate(), pictures()[0], 'cpu', 'bf16')
        assert re.fullmatch(r'CPU, OpenVINO [0-9.]+, bf16', engine.describe())
    assert not caplog.records


@BF16
def test_auto_takes_16_bits_where_they_do():
    """That is twice as fast."""
    assert re.fullmatch(r'CPU, OpenVINO [0-9.]+, bf16',
                        Engine(Small(), pictures()[0], 'cpu').describe())


def test_without_openvino_pytorch_does_it_silently(monkeypatch, caplog):
    """It is optional."""
    without_openvino(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert Engine(Small(), pictures()[0], 'cpu').describe() == 'CPU, PyTorch, fp32'
    assert not caplog.records


@OPENVINO
def test_making_an_engine_is_quiet(monkeypatch, recwarn):
    """No warnings about tracing, and no report of the use to OpenVINO's server."""
    import openvino

    def tell(*_, **__):
        pytest.fail('convert_model reports its use')

    monkeypatch.setattr(openvino, 'convert_model', tell)
    assert Engine(Small(), pictures()[0], 'cpu', 'fp32').backend.startswith('OpenVINO')
    assert not [str(warning.message) for warning in recwarn]


@OPENVINO
@pytest.mark.parametrize('stage', ['convert', 'compile'])
def test_engine_that_cannot_run_a_network_is_done_without(monkeypatch, caplog, stage):
    """A network it does not know, or a broken installation."""
    def refuse(*_, **__):
        raise RuntimeError('unsupported operation')

    if stage == 'convert':
        monkeypatch.setattr(engine_module, '_openvino_graph', refuse)
    else:
        monkeypatch.setattr(engine_module, '_openvino_core', lambda: SimpleNamespace(
            get_property=lambda *_: ['FP32'], compile_model=refuse))
    with caplog.at_level(logging.WARNING):
        engine = Engine(Small(), pictures()[0], 'cpu', 'fp32')
    assert engine.backend == 'PyTorch' and 'unsupported operation' in caplog.text


@OPENVINO
def test_ctrl_c_while_it_converts_is_not_forgotten(monkeypatch):
    """The conversion calls Python from C++, which keeps exceptions to itself."""
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    mark_node, marked = TorchScriptPythonDecoder.mark_node, []

    def interrupt(decoder, node):
        if not marked:
            marked.append(node)
            os.kill(os.getpid(), signal.SIGINT)
        return mark_node(decoder, node)

    monkeypatch.setattr(TorchScriptPythonDecoder, 'mark_node', interrupt)
    with pytest.raises(KeyboardInterrupt):
        Engine(Small(), pictures()[0], 'cpu', 'fp32')
    assert marked


@OPENVINO
def test_a_signal_after_two_engines_are_gone_is_survived():
    """Each core of OpenVINO lends the thread a stack for signals, and takes it away again."""
    program = ('import os, signal; import numpy as np; import torch\n'
               'from geo_perception.inference.engine import Engine\n'
               'make = lambda: Engine(torch.nn.Linear(2, 2), np.ones((1, 2), np.float32), "cpu")\n'
               'first, second = make(), make()\n'
               'del first\n'
               'del second\n'
               'signal.signal(signal.SIGTERM, lambda *_: print("answered"))\n'
               'os.kill(os.getpid(), signal.SIGTERM)\n')
    result = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
    assert (result.returncode, result.stdout) == (0, 'answered\n')


@OPENVINO
def test_nothing_is_reported_to_anybody(tmp_path):
    """Importing OpenVINO does, unless it is kept from it; the number of the user tells."""
    program = ('import sys; import numpy as np; import torch\n'
               'from geo_perception.inference.engine import Engine\n'
               'engine = Engine(torch.nn.Linear(2, 2), np.ones((1, 2), np.float32), "cpu")\n'
               'print(engine.backend, sys.modules.get("openvino_telemetry"))')
    environment = {**os.environ, 'HOME': str(tmp_path),
                   'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    environment.pop('CI', None)   # which keeps it from reporting as well
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                            env=environment, check=True)
    assert re.fullmatch('OpenVINO .* None\n', result.stdout)
    assert not (tmp_path / 'intel').exists()


def test_half_precision_on_a_cpu_is_pytorch():
    """No other library offers it."""
    assert Engine(Small(), pictures()[0], 'cpu', 'fp16').describe() == 'CPU, PyTorch, fp16'


@NO_CUDA
@pytest.mark.parametrize('device', ['cuda', 'cuda:1'])
def test_cuda_is_never_replaced_by_the_cpu(device):
    """It is an error, which says what to do."""
    with pytest.raises(ConfigurationError, match=f'device "{device}" was asked for but PyTorch.*'
                       'set device to cpu'):
        Engine(Small(), pictures()[0], device)


@NO_CUDA
def test_auto_is_the_cpu_here():
    """Where there is nothing else."""
    assert resolve_device('auto') == resolve_device('cpu') == torch.device('cpu')


def test_cuda_device_that_does_not_exist(monkeypatch):
    """On a machine with one."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert resolve_device('auto') == torch.device('cuda')
    assert resolve_device('cuda:0') == torch.device('cuda:0')
    with pytest.raises(ConfigurationError, match='"cuda:1" was asked for but there are only 1'):
        resolve_device('cuda:1')


@CUDA
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_cuda_graph_answers_equal_the_module(precision):
    """Replayed on other images."""
    module = Small()
    with torch.no_grad():
        expected = [module(torch.from_numpy(image)) for image in pictures()]
    engine = Engine(module, pictures()[0], 'cuda', precision)
    assert next(module.parameters()).device.type == 'cpu'
    for image, wanted in zip(pictures(), expected):
        torch.testing.assert_close(engine(image), wanted, atol=0.02, rtol=0.02)


@pytest.mark.parametrize('device', ['gpu', 'cuda:x', 'cuda:', 'cpu:3', '', 'CUDA'])
def test_unknown_devices_are_refused(device):
    """One sentence, whatever was written."""
    with pytest.raises(ConfigurationError, match='is unknown; choose auto, cpu, cuda'):
        resolve_device(device)


@pytest.mark.parametrize('options, words', [
    ({'precision': 'int8'}, 'precision "int8" is unknown'), ({'threads': -1}, 'threads is -1')])
def test_impossible_options_are_refused(options, words):
    """Before anything is built."""
    with pytest.raises(ConfigurationError, match=words):
        Engine(Small(), pictures()[0], 'cpu', **options)


def test_threads_hold_in_every_calling_thread(monkeypatch):
    """In PyTorch the number is kept per thread: set once in each, never without a number."""
    without_openvino(monkeypatch)
    calls = []
    monkeypatch.setattr(torch, 'set_num_threads',
                        lambda n: calls.append((threading.current_thread().name, n)))
    engine = Engine(Small(), pictures()[0], 'cpu', 'fp32', threads=1)

    def work():
        engine(pictures()[0])
        engine(pictures()[1])

    for name in ('first', 'second'):
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()
    assert [call for call in calls if call[0] != 'MainThread'] == [('first', 1), ('second', 1)]
    calls.clear()
    Engine(Small(), pictures()[0], 'cpu', 'fp32')(pictures()[0])
    assert calls == []


@OPENVINO
def test_threads_are_passed_on_to_openvino(monkeypatch):
    """And one stream, for the delay of one image counts."""
    options = []
    core = engine_module._openvino_core()

    class Spy:
        """A core that remembers what it was asked for."""

        def get_property(self, *arguments):
            return core.get_property(*arguments)

        def compile_model(self, graph, device, chosen):
            options.append(chosen)
            return core.compile_model(graph, device, chosen)

    monkeypatch.setattr(engine_module, '_openvino_core', Spy)
    Engine(Small(), pictures()[0], 'cpu', 'fp32', threads=1)
    assert options[0]['INFERENCE_NUM_THREADS'] == '1' and options[0]['NUM_STREAMS'] == '1'


def test_dropout_is_off(monkeypatch):
    """The module is put into evaluation mode."""
    without_openvino(monkeypatch)
    module = nn.Sequential(Small(), nn.Dropout(0.5)).train()
    engine = Engine(module, pictures()[0], 'cpu', 'fp32')
    assert torch.equal(engine(pictures()[0]), engine(pictures()[0])) and not module.training


def test_a_processor_without_bf16_gets_fp32(monkeypatch):
    """What auto means is asked of the library."""
    pytest.importorskip('openvino', reason='openvino is not installed')
    core = engine_module._openvino_core()
    for capabilities, precision in ((['FP32'], 'fp32'), (['FP32', 'BF16'], 'bf16')):
        monkeypatch.setattr(
            engine_module, '_openvino_core', lambda capabilities=capabilities: SimpleNamespace(
                get_property=lambda *_: capabilities, compile_model=core.compile_model))
        assert Engine(Small(), pictures()[0], 'cpu').precision == precision


@OPENVINO
def test_engines_that_are_made_at_the_same_time_are_traced_one_after_the_other(monkeypatch):
    """Nodes of one process load in threads of their own; torch.jit.trace knows one at a time."""
    trace, active, most = torch.jit.trace, [], []

    def watched(*arguments, **options):
        active.append(1)
        threading.Event().wait(0.05)
        most.append(len(active))
        try:
            return trace(*arguments, **options)
        finally:
            active.pop()

    monkeypatch.setattr(torch.jit, 'trace', watched)
    example, engines = np.zeros((1, 8, 8, 3), np.uint8), []
    threads = [threading.Thread(target=lambda: engines.append(
        Engine(Small().eval(), example, 'cpu', 'fp32'))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1] and all('OpenVINO' in engine.backend for engine in engines)
