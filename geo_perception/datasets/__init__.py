# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Recordings as sequences of frames, and the samplers that training draws from them."""
