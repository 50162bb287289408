# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One Lightning module a system, and the data modules they share."""
