# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The one place that knows devices: runs a network at a fixed input shape, fast.

On a CPU it takes OpenVINO where that is installed and agrees with PyTorch on a test input,
otherwise PyTorch; on CUDA it replays a captured graph.
"""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import lru_cache
import logging
import re
import sys
import threading
import warnings

import torch

from geo_perception.errors import ConfigurationError

log = logging.getLogger(__name__)

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
# Root mean square differences to fp32 PyTorch on the CPU, relative to the output's spread; in 32
# bits to its size, with which rounding grows whatever the spread. Beyond these an engine is wrong:
# engines that are silently wrong have been reported (speed.md section 3). On CUDA 32 bits may be
# TensorFloat-32. Wide for 16 bits, which only who asks for them gets: there rounding is large.
WRONG = {'fp32': 1e-4, 'bf16': 0.2, 'fp16': 0.1}
WRONG_ON_CUDA = {**WRONG, 'fp32': 1e-2}
# torch.jit.trace keeps what it is at in a global variable, and there must be one core of OpenVINO:
# nodes that load at the same time do so one after the other.
_TRACING = threading.Lock()
# What ``auto`` lets rounding cost. 5.7 % in the features of the sample world's model move its
# poses by 1.3 cm (median; its error is 8.9 cm), too much for a choice that nobody made.
ACCURATE = 0.03


def resolve_device(device):
    """
    Return the device that a request stands for.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    torch.device

    Raises
    ------
    ConfigurationError
        When the device is unknown, or is asked for and not there: never a silent CPU.

    """
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', device):
        raise ConfigurationError(f'device "{device}" is unknown; choose auto, cpu, cuda or cuda:1')
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ConfigurationError(
            f'device "{device}" was asked for but PyTorch {torch.__version__} sees no CUDA '
            'device; install a CUDA build of PyTorch and the driver, or set device to cpu')
    device = torch.device(device)
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f'device "{device}" was asked for but there are only '
                                 f'{torch.cuda.device_count()} CUDA devices, counted from 0')
    return device


def upload(device, *arrays):
    """
    Return arrays as tensors on a device, for what runs there without an engine.

    Parameters
    ----------
    device : torch.device
        From `resolve_device`.
    *arrays : np.ndarray
        Writable.

    Returns
    -------
    list of torch.Tensor

    """
    return [torch.from_numpy(array).to(device) for array in arrays]


class Engine:
    """
    One network, one input shape, one device.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor and returns one tensor; it is put into evaluation mode and stays on the
        CPU.
    example : np.ndarray
        An input of the shape and dtype that will come, and as varied, for it is the test input.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``fp32``, ``bf16``, ``fp16``; ``auto`` takes bf16 on a CPU with instructions for it and
        fp16 on CUDA where the test input shows that it is accurate enough, else fp32.
    threads : int
        CPU threads for one inference; 0 leaves the number to the library.
    accurate : float
        What ``auto`` lets rounding cost, part of the spread of the output.

    Attributes
    ----------
    device : torch.device
        Where it runs.
    backend, precision : str
        What runs it, and in which number format.

    Raises
    ------
    ConfigurationError
        When device, precision or number of threads cannot be had.

    """

    def __init__(self, module, example, device='auto', precision='auto', threads=0,
                 accurate=ACCURATE):
        if precision not in PRECISIONS:
            raise ConfigurationError(
                f'precision "{precision}" is unknown; choose {", ".join(PRECISIONS)}')
        if threads < 0:
            raise ConfigurationError(f'threads is {threads}; set a number of CPU threads, or 0 to '
                                     'leave it to the library')
        self.device = resolve_device(device)
        self._threads, self._accurate = threads, accurate
        self._thread_state = threading.local()
        self._run, self._remark = None, ''
        module = module.eval()
        self.enter_thread()
        with torch.inference_mode():
            expected = module(torch.from_numpy(example))
        if self.device.type == 'cuda':
            self.backend = 'CUDA'
            self._choose(_cuda(module, example, self.device), WRONG_ON_CUDA, precision,
                         ('fp16', 'fp32'), example, expected)
            if self._run is None:
                raise ConfigurationError(
                    f'device "{self.device}" computes something else than the CPU '
                    f'({self._remark}); set device to cpu, or precision to fp32')
            return
        if precision != 'fp16':   # processors without instructions for it are the rule
            try:
                with _TRACING:
                    build, self.backend, fast = _openvino(module, example, threads)
                if build:
                    self._choose(build, WRONG, precision, (*fast, 'fp32'), example, expected)
            except Exception as error:   # of a dozen kinds; PyTorch always works
                self._remark = str(error)
            if self._run is not None:
                return
            if self._remark:
                log.warning('OpenVINO cannot run this network (%s); using PyTorch', self._remark)
        self.backend, self._remark = 'PyTorch', ''
        self.precision = 'fp32' if precision == 'auto' else precision
        self._run = _torch_cpu(module, self.precision)

    def _choose(self, build, wrong, precision, fastest_first, example, expected):
        """Take the function of the first precision that passes the self-test, if any does."""
        auto = precision == 'auto'
        for candidate in fastest_first if auto else (precision,):
            run = build(candidate)
            with torch.inference_mode():
                difference = run(example) - expected
            scale = (expected.square().mean().sqrt() if candidate == 'fp32' else expected.std())
            error = float(difference.square().mean().sqrt() / scale.clamp_min(1e-12))
            limit = self._accurate if auto and candidate != 'fp32' else wrong[candidate]
            if error <= limit:
                self.precision, self._run = candidate, run
                return
            self._remark = f'{candidate} is off by {100 * error:.2g} %'

    def __call__(self, array):
        """
        Run the network once.

        Parameters
        ----------
        array : np.ndarray
            Of the example's shape and dtype.

        Returns
        -------
        torch.Tensor
            float32 on the CPU; its own memory.

        """
        self.enter_thread()
        with torch.inference_mode():
            return self._run(array)

    def enter_thread(self):
        """Apply the thread count in the calling thread: PyTorch keeps part of it per thread."""
        if self._threads and not getattr(self._thread_state, 'done', False):
            torch.set_num_threads(self._threads)
            self._thread_state.done = True

    def describe(self):
        """
        Return device, library and precision in words, and why not a faster precision.

        Returns
        -------
        str

        """
        name = (torch.cuda.get_device_name(self.device) if self.device.type == 'cuda'
                else 'CPU')
        remark = f' ({self._remark})' if self._remark else ''
        return f'{name}, {self.backend}, {self.precision}{remark}'


def _torch_cpu(module, precision):
    """Return a function that runs the module in PyTorch."""
    def run(array):
        with torch.autocast('cpu', _DTYPES[precision], enabled=precision != 'fp32'):
            return module(torch.from_numpy(array)).float()
    return run


def _openvino(module, example, threads):
    """
    Return how to build a function for a precision, the name, and precisions faster than fp32.

    Without OpenVINO the first is None.
    """
    # Importing it would report that to a server, and leave a number for this user in the home
    # folder. It does without where the package that reports is missing.
    sys.modules.setdefault('openvino_telemetry', None)
    try:
        import openvino
    except ImportError:
        return None, '', ()
    name = f'OpenVINO {openvino.__version__.split("-")[0]}'
    core = _openvino_core()
    # Named only where the processor has instructions for it; elsewhere it is emulated, slowly.
    fast = ('bf16',) if 'BF16' in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES') else ()
    # Threads bound to cores wait behind whatever else runs there, on a robot everything else.
    options = {'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': '1', 'ENABLE_CPU_PINNING': 'NO'}
    if threads:
        options['INFERENCE_NUM_THREADS'] = str(threads)
    # Apart from the main thread, where Ctrl-C raises: within a callback from C++ that would be
    # forgotten, or end the process at once.
    with ThreadPoolExecutor(1) as apart:
        graph = apart.submit(_openvino_graph, module, example).result()

    def build(precision):
        hint = {'fp32': 'f32', 'bf16': 'bf16'}[precision]
        request = core.compile_model(graph, 'CPU', {
            **options, 'INFERENCE_PRECISION_HINT': hint}).create_infer_request()

        def run(array):
            # The request reads the array in place and owns its output, which the next call reuses.
            result = request.infer([array], share_inputs=True, share_outputs=True)[0]
            return torch.from_numpy(result.copy())
        return run
    return build, name, fast


@lru_cache(maxsize=1)
def _openvino_core():
    """
    Return the one core of this process, which is never given back.

    Each core gives the thread that makes it a stack for signal handlers, and takes it away when
    it ends: of two that end in the order they were made, the second restores the stack of the
    first, which is gone, and the next signal, such as Ctrl-C, ends the process.
    """
    import openvino

    return openvino.Core()


def _openvino_graph(module, example):
    """
    Return the network as a graph of OpenVINO.

    Through its PyTorch frontend: ``openvino.convert_model`` takes three times as long, for
    optimisations that compiling makes anyway, and reports every use to a server.
    """
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(), warnings.catch_warnings():
        # Shapes are constants in the graph: here that is the intention. Tracing is deprecated,
        # but torch.export takes ten times as long.
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.filterwarnings('ignore', r'`?torch\.jit', DeprecationWarning)
        # Without PyTorch's own check, which costs as much as all the rest: the engine has one.
        traced = torch.jit.trace(module, torch.from_numpy(example), check_trace=False)
        # The frontend refers to the decoder as long as it converts.
        decoder = TorchScriptPythonDecoder(traced)
        frontend = FrontEndManager().load_by_framework('pytorch')
        network = frontend.load(decoder)
        network.set_partial_shape(network.get_inputs()[0], PartialShape(example.shape))
        return frontend.convert(network)


def _cuda(module, example, device):
    """Return how to build a function for a precision: a captured graph where that works."""
    # A copy: the caller's network stays on the CPU, where its other parts run.
    module = deepcopy(module).to(device).to(memory_format=torch.channels_last)
    # uint8 images travel as such and are converted on the device.
    pinned = torch.from_numpy(example).clone().pin_memory()
    static_input = pinned.to(device)

    def build(precision):
        def forward():
            # Without its cache, whose entries a capture must not outlive (CUDA graphs notes).
            with torch.autocast('cuda', _DTYPES[precision], enabled=precision != 'fp32',
                                cache_enabled=False):
                return module(static_input).float()

        with torch.inference_mode(), torch.cuda.device(device):
            # Capture wants warm libraries, and warming on a side stream (CUDA graphs notes).
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    forward()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use CUDA meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                    static_output = forward()
            except RuntimeError as error:   # e.g. a network that uploads something each time
                log.warning('no CUDA graph of this network (%s); it runs kernel by kernel', error)
                graph = None

        def run(array):
            pinned.copy_(torch.from_numpy(array))
            static_input.copy_(pinned, non_blocking=True)
            if graph is None:
                return forward().cpu()
            graph.replay()
            return static_output.cpu()   # waits for the device; its own memory
        return run
    return build
