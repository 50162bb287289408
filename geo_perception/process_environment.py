# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Environment variables of every program of this package, set before the libraries come in."""

import os

# NumPy and PyTorch read these when they are imported: threads that spin at barriers make either
# many times slower beside other work (speed.md section 1), and our NumPy products are too thin to
# share.
THREADS = {'OMP_WAIT_POLICY': 'PASSIVE', 'OPENBLAS_NUM_THREADS': '1'}
# What is wrong with an image is said in our own words.
MESSAGES = {'OPENCV_LOG_LEVEL': 'OFF'}


def set_process_environment():
    """Set what the user has not set."""
    for variable, value in {**THREADS, **MESSAGES}.items():
        os.environ.setdefault(variable, value)
