# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What bfloat16 costs in accuracy: SfMLearner's depth network at published size, in each precision.

Published weights do not come with this project, and random weights say nothing about accuracy.
So the network is taught the true depth of the sample world's training pass for a few minutes,
which is no training that a robot could have, and measured on its test pass.
"""

from pathlib import Path
import tempfile

from harness import argument_parser, Results
import numpy as np

from geo_perception.progress import track

IMAGES, BATCH, LEARNING_RATE = 125, 4, 3e-4


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=25)
    parser.add_argument('--steps', type=int, default=300, help='that the network is taught for')
    arguments = parser.parse_args()
    results = Results(arguments)

    from geo_perception.datasets.sample_world.world import SampleWorld
    from geo_perception.evaluation.depth import compare_depth, depth_at_truth
    from geo_perception.inference.geometry import GeometryPipeline

    test = SampleWorld().drive('test', arguments.rounds)
    frames = [test[i] for i in range(len(test))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'taught.safetensors')
        _write_taught(path, arguments.steps)
        for precision in ('fp32', 'bf16', 'auto'):
            pipeline = GeometryPipeline.load(path, precision=precision)
            errors = np.mean([
                compare_depth(depth_at_truth(pipeline.depth_only(frame.image, frame.camera),
                                             frame.camera, frame.depth.shape),
                              frame.depth, False).errors_scaled for frame in frames], 0)
            results.note(
                f'precision {precision} ({pipeline.describe()}), {len(frames)} images',
                f'AbsRel {errors[0]:.4f}, RMSE {errors[2]:.4f} m, '
                f'within a factor of 1.25 {100 * errors[4]:.2f} %, median-scaled')
    results.write()


def _write_taught(path, steps):
    """Write a model file whose depth network has been shown true depth."""
    import cv2
    import torch
    from torch.nn import functional as F
    from untrained_model import write_untrained_model

    from geo_perception.datasets.sample_world.world import SampleWorld
    from geo_perception.model_file import load_model_file, save_model_file
    from geo_perception.networks.depth import build_depth_network

    write_untrained_model(path, 'sfmlearner')
    model = load_model_file(path)
    preprocessing = model.metadata.preprocessing
    network = build_depth_network(model.metadata.architecture, model.metadata.arguments['depth'])
    drive = SampleWorld().drive('train', IMAGES)
    images, depths = [], []
    for i in track(range(len(drive)), 'Rendering'):
        frame = drive[i]
        images.append(preprocessing.resize(frame.image))
        depths.append(cv2.resize(frame.depth, preprocessing.crop[::-1],
                                 interpolation=cv2.INTER_NEAREST))
    images, depths = (torch.from_numpy(np.stack(arrays)) for arrays in (images, depths))
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in track(range(steps), 'Teaching'):
        chosen = torch.randint(len(images), (BATCH,))
        truth = depths[chosen][:, None]
        loss = torch.zeros(())
        for disparity in network(preprocessing.normalise(images[chosen])):
            scaled = F.interpolate(truth, disparity.shape[2:])
            known = scaled > 0
            loss = loss + (disparity[known].log() + scaled[known].log()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    weights = {f'network.depth.{name}': value.contiguous().numpy()
               for name, value in network.state_dict().items()}
    save_model_file(path, model.metadata, {**model.tensors, **weights})


if __name__ == '__main__':
    main()
