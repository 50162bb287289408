# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Everything that knows ROS but is no node: conversions, the node base, TF, replay."""
