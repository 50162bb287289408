# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One thin lifecycle node a file."""

from geo_perception.process_environment import set_process_environment

set_process_environment()   # a node is a program, whatever starts it
