# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks, each file one published architecture."""
