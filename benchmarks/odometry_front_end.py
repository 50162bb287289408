# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What following corners costs, on one core, beside the alignment that it replaces.

Both find the motion of the same images of 640x480, with depth of 96x128. Key frames, which adjust
the window, are counted in. Times are of the processor, so that a busy machine changes little.
"""

import time

import cv2
from harness import argument_parser, ratio, Results
import numpy as np
import torch
from untrained_model import camera_video, video_camera

from geo_perception.inference.feature_tracks import FeatureImage
from geo_perception.inference.hybrid_motion import HYBRID, HybridMotion
from geo_perception.inference.motion import DirectMotion, View


def main():
    """Run the benchmark."""
    arguments = argument_parser(__doc__, rounds=4).parse_args()
    results = Results(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    video, camera = camera_video(), video_camera()
    small = camera.resized(128, 96)
    depth = np.full((96, 128), 3.0, np.float32)
    crops = [cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA) for image in video]
    times = {'hybrid': [], 'alignment': []}
    hybrid, align = HybridMotion(DirectMotion('cpu')), DirectMotion('cpu')
    previous = None
    for i in range(arguments.rounds * len(video)):
        j = i % len(video)
        started = time.thread_time()
        view = View(crops[j], depth, small, i, features=FeatureImage.of(video[j], camera))
        prepared = time.thread_time() - started
        if previous is not None:
            for name, method in (('hybrid', hybrid), ('alignment', align)):
                started = time.thread_time()
                method((), previous, view, np.eye(4))
                times[name].append(time.thread_time() - started
                                   + (prepared if name == 'hybrid' else 0.0))
        previous = view
    times = {name: np.array(seconds)[None] for name, seconds in times.items()}
    results.times('motion of one frame, one thread', times)
    results.note('state at the end', hybrid.state if hybrid.state == HYBRID else 'lost')
    results.target('front end, mean ms a frame', 1e3 * times['hybrid'].mean(), 10.0)
    results.note('hybrid over alignment', f"{ratio(times['hybrid'], times['alignment']):.2f}")
    results.write()


if __name__ == '__main__':
    main()
