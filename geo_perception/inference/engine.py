# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The one place that knows devices: runs a network at a fixed input shape, fast.

On a CPU it takes OpenVINO where that is installed and agrees with PyTorch on a test input,
otherwise PyTorch; on CUDA it replays a captured graph.
"""

import logging
import re
import threading
import warnings

import torch

from geo_perception.errors import ConfigurationError

log = logging.getLogger(__name__)

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
# Largest accepted root mean square difference to fp32 PyTorch, relative to the output's spread.
SELF_TEST_TOLERANCE = {'fp32': 1e-4, 'bf16': 3e-2, 'fp16': 1e-2}


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


class Engine:
    """
    One network, one input shape, one device.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor and returns one tensor; it is put into evaluation mode.
    example : np.ndarray
        An input of the shape and dtype that will come, and as varied, for it is the test input.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``fp32``, ``bf16``, ``fp16``; ``auto`` takes bf16 on a CPU with instructions for it,
        fp16 on CUDA, else fp32.
    threads : int
        CPU threads for one inference; 0 leaves the number to the library.

    Raises
    ------
    ConfigurationError
        When device, precision or number of threads cannot be had.

    """

    def __init__(self, module, example, device='auto', precision='auto', threads=0):
        if precision not in PRECISIONS:
            raise ConfigurationError(
                f'precision "{precision}" is unknown; choose {", ".join(PRECISIONS)}')
        if threads < 0:
            raise ConfigurationError(f'threads is {threads}; set a number of CPU threads, or 0 to '
                                     'leave it to the library')
        self.device = resolve_device(device)
        self._threads = threads
        self._thread_state = threading.local()
        module = module.eval()
        if self.device.type == 'cuda':
            self.precision = 'fp16' if precision == 'auto' else precision
            self.backend = 'CUDA graph'
            self._run = _capture_cuda_graph(module, example, self.device, self.precision)
            return
        self.backend, self.precision, self._run = _openvino(module, example, precision, threads)
        if self._run is None:
            self.backend = 'PyTorch'
            self.precision = 'fp32' if precision == 'auto' else precision
            self._run = _torch_cpu(module, self.precision)

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
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        name = (torch.cuda.get_device_name(self.device) if self.device.type == 'cuda'
                else 'CPU')
        return f'{name}, {self.backend}, {self.precision}'


def _torch_cpu(module, precision):
    """Return a function that runs the module in PyTorch."""
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}[precision]

    def run(array):
        with torch.autocast('cpu', dtype, enabled=precision != 'fp32'):
            return module(torch.from_numpy(array)).float()
    return run


def _openvino(module, example, precision, threads):
    """Return (name, precision, function), the function None where it cannot be used."""
    try:
        import openvino
    except ImportError:
        return None, None, None
    core = openvino.Core()
    if precision == 'auto':
        capable = 'BF16' in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        precision = 'bf16' if capable else 'fp32'
    if precision == 'fp16':
        return None, None, None
    name = f'OpenVINO {openvino.__version__.split("-")[0]}'
    # Threads bound to cores wait behind whatever else runs there, on a robot everything else.
    options = {'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': '1', 'ENABLE_CPU_PINNING': 'NO',
               'INFERENCE_PRECISION_HINT': {'fp32': 'f32', 'bf16': 'bf16'}[precision]}
    if threads:
        options['INFERENCE_NUM_THREADS'] = str(threads)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # Shapes are constants in the graph: here that is the intention.
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            expected = module(torch.from_numpy(example))
            # Without PyTorch's own check, which costs as much as all the rest: ours is below.
            traced = torch.jit.trace(module, torch.from_numpy(example), check_trace=False)
            graph = openvino.convert_model(traced, example_input=torch.from_numpy(example))
            graph.reshape(list(example.shape))
        request = core.compile_model(graph, 'CPU', options).create_infer_request()
    except Exception as error:   # of a dozen kinds; PyTorch always works
        log.warning('%s cannot run this network; using PyTorch (%s)', name, error)
        return None, None, None

    def run(array):
        # The request reads the array in place and owns its output, which the next call reuses.
        result = request.infer([array], share_inputs=True, share_outputs=True)[0]
        return torch.from_numpy(result.copy())

    difference = (run(example) - expected).square().mean().sqrt() / expected.std().clamp_min(1e-12)
    # Engines that are silently wrong have been reported: believe it only after a comparison.
    if not difference <= SELF_TEST_TOLERANCE[precision]:
        log.warning('%s differs from PyTorch by %.2g of the output spread; using PyTorch',
                    name, float(difference))
        return None, None, None
    return name, precision, run


def _capture_cuda_graph(module, example, device, precision):
    """Return a function that copies in, replays a captured graph, and copies out."""
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}[precision]
    module = module.to(device).to(memory_format=torch.channels_last)
    pinned = torch.from_numpy(example).clone().pin_memory()
    static_input = pinned.to(device)

    def forward():
        with torch.autocast('cuda', dtype, enabled=precision != 'fp32'):
            return module(static_input).float()

    with torch.inference_mode():
        # Capture wants warm libraries, and warming on a side stream (CUDA graphs notes).
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                forward()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            static_output = forward()

    def run(array):
        pinned.copy_(torch.from_numpy(array))
        static_input.copy_(pinned, non_blocking=True)
        graph.replay()
        return static_output.cpu()
    return run
