# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Published weights in: files of other programs become model files; none of their code is run."""
