# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Cameras, rigid transforms and image warps, in plain NumPy and PyTorch."""
