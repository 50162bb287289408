# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Whether stated covariances are right, in words."""

from geo_perception.evaluation.number_text import share_text

# What odometry states a covariance of -> how its metrics begin.
ODOMETRY = {'translation per frame': 'motion_position',
            'rotation per frame': 'motion_orientation',
            'position since the start': 'pose_position',
            'orientation since the start': 'pose_orientation'}
POSE = {'position': 'position', 'orientation': 'orientation'}


def calibration_sentence(metrics, parts):
    """
    Return how often the truth lies where covariances say.

    Parameters
    ----------
    metrics : dict
        With the results of `geo_perception.evaluation.relocalization.calibration`.
    parts : dict of str to str
        Name of a part to what its metrics begin with: `POSE` or `ODOMETRY`.

    Returns
    -------
    str
        Empty where nothing was compared.

    """
    found = [
        f"{name} {share_text(metrics[f'{key}_in_68_percent_ellipsoid'])} and "
        f"{share_text(metrics[f'{key}_in_95_percent_ellipsoid'])} "
        f"({metrics[f'{key}_normalised_error']:.2f})"
        for name, key in parts.items() if metrics.get(f'{key}_normalised_error') is not None]
    if not found:
        return ''
    return ('Truth in the stated 68 % and 95 % ellipsoids (and normalised squared error, 1 when '
            f"right, above when too sure): {', '.join(found)}.")
