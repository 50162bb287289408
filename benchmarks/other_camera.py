# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Depth of the shipped stereo model through other cameras than the one it was trained with.

The sample world is rendered anew for cameras of other focal lengths, and the errors in metres
are given for both policies: the whole image with depth rescaled, and what the training camera
would have seen of it.
"""

from dataclasses import replace

from harness import argument_parser, Results
import numpy as np


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=20)
    parser.add_argument('--focal', type=float, nargs='+', default=[0.6, 0.8, 1.0, 1.1],
                        help='focal lengths, times that of training')
    arguments = parser.parse_args()
    results = Results(arguments)

    from geo_perception.evaluation.depth import compare_depth, depth_at_truth
    from geo_perception.inference.stereo_depth import CAMERA_POLICIES, StereoDepthPipeline
    from geo_perception.share import share_file

    model = share_file('models/sample_world_stereo.safetensors')
    pipelines = {policy: StereoDepthPipeline.load(model, post_process=True, camera_policy=policy)
                 for policy in CAMERA_POLICIES}
    for focal in arguments.focal:
        frames = list(_frames(focal, arguments.rounds))
        for policy, pipeline in pipelines.items():
            found = [compare_depth(depth_at_truth(pipeline(frame.image, frame.camera),
                                                  frame.camera, frame.depth.shape),
                                   frame.depth, True) for frame in frames]
            results.note(
                f'focal length times {focal:g}, {policy}, {len(frames)} images of the test pass',
                f'AbsRel {np.mean([f.errors[0] for f in found]):.3f} in metres, '
                f'{np.mean([f.errors_scaled[0] for f in found]):.3f} median-scaled, '
                f'{100 * np.mean([f.coverage for f in found]):.0f} % of the image')
    results.write()


def _frames(focal, count):
    """Yield images of the test pass as another camera sees it."""
    from geo_perception.datasets.sample_world.world import CAMERA, SampleWorld

    K = CAMERA.K * [[focal], [focal], [1.0]]
    K[:2, 2] = CAMERA.K[:2, 2]
    drive = SampleWorld(camera=replace(CAMERA, K=K)).drive('test', 250)
    for i in range(0, len(drive), -(-len(drive) // count)):
        yield drive[i]


if __name__ == '__main__':
    main()
