# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Where am I, how far is everything, how am I moving, and what else is moving."""

__version__ = '0.1.0'
