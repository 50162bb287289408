# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
One image through each pipeline, against plain PyTorch and against other engines.

``pipeline`` is everything from the camera image to the gated pose with its covariance;
``plain PyTorch`` is resizing, cropping and one eager fp32 pass of the same network. The engines
all go from the same crop to the features before the first dropout layer, in fp32. The weights of
``posenet`` are random; those of ``posenet_lite`` are the shipped model's, for they decide which
precision is taken automatically.

For depth and odometry, ``pipeline`` is everything from the image of a moving camera to depth
and motion with its covariance; ``plain PyTorch`` is resizing, one eager fp32 pass of the depth
network and one of the ego-motion network (or the alignment that the model has in its place).
``sfmlearner`` and ``geonet`` are the published networks at 416x128 with random weights,
``geometry_lite`` is the shipped model.

On CUDA, plain PyTorch uploads the crop and runs eager modules there as they are; what comes
out is fetched, so that the time is that of the work and not of its launch. ONNX Runtime and
OpenVINO are measured on the CPU only.
"""

from contextlib import contextmanager
from copy import deepcopy
from functools import partial
import io
import os
from pathlib import Path
import sys
import tempfile
import warnings

from harness import argument_parser, busy_processes, interleave, ratio, Results

CALLS = 5
MODELS = Path(__file__).parents[1] / 'models'
SHIPPED = {'posenet_lite': MODELS / 'sample_world.safetensors',
           'geometry_lite': MODELS / 'sample_world_geometry.safetensors'}
RELOCALIZATION = ('posenet', 'posenet_lite')
GEOMETRY = ('sfmlearner', 'geonet', 'geonet_flow', 'geometry_lite')
ENGINES = {'engine': 'Engine, fp32', 'torch': 'PyTorch eager', 'last': 'PyTorch channels_last',
           'compile': 'torch.compile', 'onnx': 'ONNX Runtime', 'openvino': 'OpenVINO'}
# Timings of one and the same code differ by this much.
NOISE = 1.05


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=20)
    parser.add_argument('--architectures', nargs='+', default=[*RELOCALIZATION, *GEOMETRY],
                        choices=[*RELOCALIZATION, *GEOMETRY], help='networks to measure')
    parser.add_argument('--busy', nargs='+', type=int, default=[0, 2],
                        help='numbers of busy processes to measure beside')
    parser.add_argument('--device', default='cpu', help='where the networks run: cpu, cuda')
    parser.add_argument('--compile', action='store_true',
                        help='also measure torch.compile; needs a C++ compiler and a minute')
    arguments = parser.parse_args()
    results = Results(arguments)
    for architecture in arguments.architectures:
        candidates = (
            _geometry_candidates(architecture, arguments.device, results)
            if architecture in GEOMETRY else
            _candidates(architecture, arguments.device, arguments.compile, results))
        for busy in arguments.busy:
            with busy_processes(busy):
                times = interleave(candidates, arguments.rounds, CALLS)
            where = f'{architecture}, ' + (f'beside {busy} busy processes' if busy else 'alone')
            results.times(where, times)
            _compare(where, times, results)
    results.write()


def _compare(where, times, results):
    """Show the figures that the times are taken for."""
    if 'pipeline' in times:
        for name in [name for name in times if name != 'plain PyTorch']:
            results.target(f'plain PyTorch / {name}, {where}',
                           ratio(times['plain PyTorch'], times[name]), 2.0, at_least=True)
        return
    results.target(f'plain PyTorch / pipeline with 40 samples, {where}',
                   ratio(times['plain PyTorch'], times['pipeline, 40 samples']), 2.0,
                   at_least=True)
    results.target(f'40 Monte-Carlo samples / none, {where}',
                   ratio(times['pipeline, 40 samples'], times['pipeline, no samples']), 1.15)
    for label in ENGINES.values():
        if label in times and label != ENGINES['engine']:
            results.target(f'Engine in fp32 / {label}, {where}',
                           ratio(times[ENGINES['engine']], times[label]), NOISE)


def _candidates(architecture, device, with_compile, results):
    """Return functions without arguments by name."""
    import numpy as np
    import torch
    from untrained_model import camera_image

    from geo_perception.inference.engine import Engine
    from geo_perception.inference.relocalizer import Relocalizer
    from geo_perception.model_file import load_model_file
    from geo_perception.networks.relocalization import build_regressor

    with _model_path(architecture) as path:
        model = load_model_file(path)
        sampling = Relocalizer.load(path, device=device)
        deterministic = Relocalizer.load(path, device=device, samples=0)
    results.note(f'pipeline of {architecture}', sampling.describe())
    image = camera_image()
    preprocessing = model.metadata.preprocessing

    network = build_regressor(architecture, model.metadata.arguments).eval()
    network.load_state_dict({name: torch.from_numpy(value)
                             for name, value in model.weights().items()}, strict=False)
    network.to(device)

    class Features(torch.nn.Module):
        """What the pipeline gives to its engine."""

        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, crop):
            """Return features of a uint8 crop, shape (1, h, w, 3)."""
            return self.network.features(preprocessing.normalise(crop))

    def plain():
        crop = torch.from_numpy(crop_of(image)).to(device)
        with torch.inference_mode():
            return [part.cpu() for part in network(preprocessing.normalise(crop))]

    module = Features().eval()

    def crop_of(image):
        return np.ascontiguousarray(
            preprocessing.centre_crop(preprocessing.resize(image)))[None]

    crop = crop_of(image)
    eager = _torch(module, device)
    candidates = {
        'pipeline, 40 samples': partial(sampling, image),
        'pipeline, no samples': partial(deterministic, image),
        'plain PyTorch': plain,
        ENGINES['engine']: partial(Engine(deepcopy(module).cpu(), crop, device, 'fp32'), crop),
        ENGINES['torch']: partial(eager, crop),
        ENGINES['last']: partial(
            _torch(deepcopy(module).to(memory_format=torch.channels_last), device), crop)}
    if with_compile:
        candidates[ENGINES['compile']] = partial(_torch(torch.compile(module), device), crop)
    others = (('onnx', _onnx_runtime), ('openvino', _openvino)) if device == 'cpu' else ()
    for key, make in others:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')   # constants and sizes are meant to be fixed
                candidates[ENGINES[key]] = partial(make(module, crop), crop)
        except ImportError as error:
            results.note(f'{ENGINES[key]} is left out', str(error))
    expected = eager(crop).numpy()
    for name in ENGINES.values():
        if name in candidates:
            difference = np.abs(np.asarray(candidates[name]()) - expected).max()
            if difference > 1e-3 * np.abs(expected).max():
                sys.exit(f'{name} computes something else: off by {difference:.2g}')
    return candidates


def _geometry_candidates(architecture, device, results):
    """Return functions without arguments by name."""
    from collections import deque
    from itertools import cycle

    import numpy as np
    import torch
    from untrained_model import camera_video, pipeline_on_camera, video_camera

    from geo_perception.geometry.direct_alignment import align_images
    from geo_perception.geometry.projection import (
        invert_rigid, pose_vector_to_matrix, rigid_flow)
    from geo_perception.inference.flow_input import flow_input
    from geo_perception.inference.weights import build_network, load_weights
    from geo_perception.networks.depth import build_depth_network
    from geo_perception.networks.egomotion import EgoMotionNet
    from geo_perception.networks.flow import build_flow_network

    with _model_path(architecture) as path:
        flow = architecture == 'geonet_flow'
        pipeline, process = pipeline_on_camera(path, flow, device=device)
        # What random weights say hardly varies, so that auto may refuse what trained ones accept.
        precision = 'bf16' if device == 'cpu' else 'fp16'
        _, half = pipeline_on_camera(path, flow, device=device, precision=precision)
        model = pipeline.model
    results.note(f'depth network of {architecture}', pipeline.describe())
    metadata = model.metadata
    preprocessing, arguments = metadata.preprocessing, metadata.arguments
    depth_network = load_weights(build_network(
        model, build_depth_network, metadata.architecture, arguments['depth']), model,
        'depth.').eval().to(device)
    direct = arguments.get('egomotion_name') == 'direct'
    if not direct:
        motion_network = load_weights(build_network(
            model, EgoMotionNet, **arguments['egomotion']), model, 'egomotion.').eval().to(device)
    if flow:
        flow_network = load_weights(build_network(
            model, build_flow_network, arguments['flow_name'], arguments['flow']), model,
            'flow.').eval().to(device)
    images, frames, depths = cycle(camera_video()), deque(maxlen=3), deque(maxlen=2)
    camera = video_camera().resized(*preprocessing.resized_size(640, 480))
    K = torch.from_numpy(camera.K.astype(np.float32))[None].to(device)

    def plain():
        return [part.cpu() for part in on_device()]

    def on_device():
        crop = np.ascontiguousarray(preprocessing.centre_crop(preprocessing.resize(next(images))))
        with torch.inference_mode():
            frame = preprocessing.normalise(torch.from_numpy(crop)[None].to(device))
            depths.append(1.0 / depth_network(frame)[0])
            frames.extend([frame] * (1 if frames else 3))
            if direct:
                return depths[-1], *align_images(frames[1], frames[2], depths[0], K)
            poses, _ = motion_network(frames[1], torch.stack([frames[0], frames[2]], 1))
            if not flow:
                return depths[-1], poses
            T = pose_vector_to_matrix(poses[:, -1])
            T = torch.cat([T, invert_rigid(T)])
            both = torch.cat([frames[1], frames[2]])
            rigid, _ = rigid_flow(torch.cat([depths[0], depths[-1]]), T, K.expand(2, 3, 3))
            return depths[-1], rigid + flow_network(flow_input(both, both.flip(0), rigid))[0]
    return {'pipeline': process, f'pipeline, {precision}': half, 'plain PyTorch': plain}


@contextmanager
def _model_path(architecture):
    """Give the model file of an architecture for a while."""
    from untrained_model import write_untrained_model

    with tempfile.TemporaryDirectory() as folder:
        path = SHIPPED.get(architecture)
        if path is None:
            path = os.path.join(folder, 'model.safetensors')
            write_untrained_model(path, architecture)
        yield path


def _torch(module, device):
    import torch

    def run(crop):
        with torch.inference_mode():
            return module(torch.from_numpy(crop).to(device)).cpu()
    return run


def _onnx_runtime(module, crop):
    import onnx  # noqa: F401  (the exporter of PyTorch needs it)
    import onnxruntime
    import torch

    file = io.BytesIO()
    torch.onnx.export(module, (torch.from_numpy(crop),), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    session = onnxruntime.InferenceSession(file.getvalue(), options,
                                           providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda crop: session.run(None, {name: crop})[0]


def _openvino(module, crop):
    import openvino
    import torch

    with torch.inference_mode():
        graph = openvino.convert_model(module, example_input=torch.from_numpy(crop))
    graph.reshape(list(crop.shape))
    compiled = openvino.Core().compile_model(
        graph, 'CPU', {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda crop: compiled([crop])[0]


if __name__ == '__main__':
    main()
