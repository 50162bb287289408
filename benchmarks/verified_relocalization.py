# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Verified poses of a place file against OpenCV alone: features, brute-force matching, PnP.

The baselines know the same key frames with features at full size, and are told which ten of them
are nearest to the true pose, which nobody knows on a robot. Times are of one image from the
pixels to the pose, taken in turns; errors are compared on the images that both answer. Not part
of ``make bench``: it needs a place file and the recordings it was made of and is tested on.
"""

import time

import cv2
from harness import argument_parser, Results
import numpy as np

KEY_FRAMES = 10
FEATURES = {'sift': (lambda: cv2.SIFT_create(2000), cv2.NORM_L2),
            'orb': (lambda: cv2.ORB_create(2000), cv2.NORM_HAMMING)}
RATIO, THRESHOLD, SMALLEST_INLIERS = 0.8, 8.0, 12


class BruteForce:
    """OpenCV's way: match with every key frame, RANSAC over all matches, refine."""

    def __init__(self, kind, sequence, indices):
        from geo_perception.geometry.se3 import transform_points
        from geo_perception.training.place_memory import DepthOfFrames

        make, norm = FEATURES[kind]
        self._detector, self._matcher = make(), cv2.BFMatcher(norm)
        depths, self._frames = DepthOfFrames(sequence), []
        for i in indices:
            frame = sequence[int(i)]
            pixels, descriptors = self._features(frame.image)
            depth = depths.at(int(i), frame, pixels)
            known = np.isfinite(depth)
            K = frame.camera.K
            rays = (pixels[known] - K[:2, 2]) / (K[0, 0], K[1, 1])
            rays = np.concatenate([rays, np.ones((len(rays), 1))], 1)
            self._frames.append((transform_points(
                frame.T_world_camera, rays * depth[known, None]), descriptors[known]))

    def _features(self, image):
        found, descriptors = self._detector.detectAndCompute(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        return np.array([point.pt for point in found]), descriptors

    def __call__(self, image, K, nearest):
        """Return a pose or None."""
        from geo_perception.geometry.perspective_n_point import solve_pose

        pixels, descriptors = self._features(image)
        points, seen = [], []
        for i in nearest:
            for pair in self._matcher.knnMatch(descriptors, self._frames[i][1], k=2):
                if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance:
                    points.append(self._frames[i][0][pair[0].trainIdx])
                    seen.append(pixels[pair[0].queryIdx])
        found = solve_pose(np.array(points), np.array(seen), K, THRESHOLD) if points else None
        if found is None or found.inliers.sum() < SMALLEST_INLIERS:
            return None
        return found.T_world_camera


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument('--place', required=True, help='place file')
    parser.add_argument('--map', required=True, help='recording that it was made of')
    parser.add_argument('--test', required=True, help='recording to find poses of')
    arguments = parser.parse_args()
    results = Results(arguments)

    from geo_perception.datasets.recording import open_recording
    from geo_perception.evaluation.relocalization_result import pose_errors
    from geo_perception.geometry.se3 import inverse_transform
    from geo_perception.inference.verified import load_relocalizer

    pipeline = load_relocalizer(arguments.place)
    place, sequence = pipeline.place, open_recording(arguments.map)
    indices = [int(np.argmin(np.abs(sequence.poses - T).sum((1, 2)))) for T in place.poses]
    systems = {'verified': None, **{
        f'brute-force {kind}': BruteForce(kind, sequence, indices) for kind in FEATURES}}
    tests = open_recording(arguments.test)
    wall, cpu = ({name: [] for name in systems} for _ in range(2))
    errors = {name: [] for name in systems}
    for i in range(len(tests)):
        frame = tests[i]
        nearest = np.argsort(place.view_distances(frame.T_world_camera))[:KEY_FRAMES]
        for name, system in systems.items():
            started, used = time.perf_counter(), time.process_time()
            if system is None:
                fix = pipeline(frame.image, frame.camera)
                T = inverse_transform(pipeline.T_map_world) @ fix.T_world_camera
                T = T if fix.accepted else None
            else:
                T = system(frame.image, frame.camera.K, nearest)
            wall[name].append(1e3 * (time.perf_counter() - started))
            cpu[name].append(1e3 * (time.process_time() - used))
            errors[name].append((np.nan, np.nan) if T is None
                                else pose_errors(T, frame.T_world_camera))
    errors = {name: np.array(values, float) for name, values in errors.items()}
    both = np.all([np.isfinite(e[:, 0]) for e in errors.values()], axis=0)
    for name in systems:
        e = errors[name]
        results.note(name, {
            'answered': float(np.isfinite(e[:, 0]).mean()),
            'gross_errors': int(((e[:, 0] > 0.5) | (e[:, 1] > 15)).sum()),
            'position_median_m': float(np.median(e[both, 0])),
            'orientation_median_deg': float(np.median(e[both, 1])),
            'wall_p50_ms': float(np.median(wall[name])),
            'wall_p95_ms': float(np.percentile(wall[name], 95)),
            'cpu_p50_ms': float(np.median(cpu[name]))})
    results.target('time of brute-force SIFT over ours, processor',
                   float(np.median(cpu['brute-force sift']) / np.median(cpu['verified'])), 5.0,
                   at_least=True)
    results.target('our error over that of brute-force SIFT', float(
        np.median(errors['verified'][both, 0])
        / np.median(errors['brute-force sift'][both, 0])), 1.2)
    results.write()


if __name__ == '__main__':
    main()
