# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training objectives."""
