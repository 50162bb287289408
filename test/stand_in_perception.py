# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Both nodes with their stand-ins, as the one process: ``python stand_in_perception.py ...``."""

import stand_in_geometry
import stand_in_relocalizer

from geo_perception.nodes import perception

perception.NODES.update(relocalize=stand_in_relocalizer.StandInNode,
                        geometry=stand_in_geometry.StandInNode)

if __name__ == '__main__':
    perception.main()
