# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One module a verb of the command line; each is a function that Python can call as well."""
