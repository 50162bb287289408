# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Depth of one image by the networks that learn from stereo pairs, against plain PyTorch.

``pipeline`` is everything from the camera image to depth at its resolution; ``plain PyTorch`` is
resizing, one eager fp32 pass of the network as one writes it down first (plain_monodepth.py), and
its disparity enlarged and turned into depth. ``post-processed`` looks at the mirror image as
well, in one batch; ``two passes`` is the pipeline on the image and on its mirror.
``monodepth_vgg`` and ``monodepth_resnet50`` are the published networks at 512x256 with random
weights, ``sample_world`` is the shipped model.
"""

from functools import partial
from pathlib import Path
import sys
import tempfile

from harness import argument_parser, interleave, ratio, Results

CALLS = 3
SHIPPED = Path(__file__).parents[1] / 'models' / 'sample_world_stereo.safetensors'
NETWORKS = ('monodepth_vgg', 'monodepth_resnet50', 'sample_world')
# How far the fp32 pipeline may be from plain PyTorch: of the largest disparity. CUDA multiplies
# with ten bits of mantissa (TensorFloat-32) in both, in another order.
SAME = {'cpu': 1e-4, 'cuda': 1e-2}


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=10)
    parser.add_argument('--networks', nargs='+', default=['monodepth_vgg', 'sample_world'],
                        choices=NETWORKS, help='networks to measure')
    parser.add_argument('--device', default='cpu', help='where the networks run: cpu, cuda')
    arguments = parser.parse_args()
    results = Results(arguments)
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            candidates = _candidates(name, folder, arguments.device, results)
        times = interleave(candidates, arguments.rounds, CALLS)
        results.times(name, times)
        for ours in ('pipeline', f'pipeline, {_half(arguments.device)}'):
            results.target(f'plain PyTorch / {ours}, {name}',
                           ratio(times['plain PyTorch'], times[ours]), 2.0, at_least=True)
        results.target(f'post-processed / two passes, {name}',
                       ratio(times['post-processed'], times['two passes']), 1.0)
    results.write()


def _half(device):
    """Return the usual precision of 16 bits on a device."""
    return 'bf16' if device == 'cpu' else 'fp16'


def _candidates(name, folder, device, results):
    """Return functions without arguments by name."""
    import cv2
    import numpy as np
    from plain_monodepth import plain_network
    import torch
    from untrained_model import camera_image, video_camera, write_untrained_stereo

    from geo_perception.inference.stereo_depth import StereoDepthPipeline
    from geo_perception.inference.weights import build_network, load_weights
    from geo_perception.model_file import load_model_file
    from geo_perception.networks.stereo import build_stereo_network

    path = SHIPPED
    if name != 'sample_world':
        path = Path(folder, 'model.safetensors')
        write_untrained_stereo(path, name)
    model = load_model_file(path)
    half = _half(device)
    pipelines = {label: StereoDepthPipeline(model, device=device, **options)
                 for label, options in (
                     ('pipeline', {}), ('pipeline, fp32', {'precision': 'fp32'}),
                     (f'pipeline, {half}', {'precision': half}),
                     ('post-processed', {'post_process': True}))}
    results.note(f'engine of {name}', pipelines['pipeline'].describe())
    image, camera = camera_image(), video_camera()
    mirror = np.ascontiguousarray(image[:, ::-1])
    metadata = model.metadata
    network = load_weights(build_network(model, build_stereo_network, metadata.architecture,
                                         metadata.arguments['network']), model)
    if name != 'sample_world':
        network = plain_network(network)
    network.to(device)
    preprocessing = metadata.preprocessing
    size = pipelines['pipeline'](image, camera).disparity.shape[::-1]

    def plain():
        crop = np.ascontiguousarray(preprocessing.centre_crop(preprocessing.resize(image)))
        with torch.inference_mode():
            batch = preprocessing.normalise(torch.from_numpy(crop)[None].to(device))
            disparity = network(batch)[0][0, 0]
        disparity = cv2.resize(disparity.cpu().numpy(), size)
        return disparity, 0.1 / disparity

    def two_passes():
        pipelines['pipeline'](image, camera)
        pipelines['pipeline'](mirror, camera)

    difference = np.abs(pipelines['pipeline, fp32'](image, camera).disparity - plain()[0]).max()
    if not difference < SAME[device] * pipelines['pipeline'].largest_disparity:
        sys.exit(f'the pipeline computes something else: off by {difference:.2g}')
    return {**{label: partial(pipeline, image, camera) for label, pipeline in pipelines.items()},
            'plain PyTorch': plain, 'two passes': two_passes}


if __name__ == '__main__':
    main()
