# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception demo``: the whole road, from a rendered world to a report."""


def demo(output: str = 'demo', rate: float = 1.0):
    """
    Render the sample world, play it into the live node with the shipped model, and score it.

    What is there already from an earlier run is not made again.

    Parameters
    ----------
    output : str
        Folder for the bag, ``metrics.json`` and ``report.html``.
    rate : float
        Speed of the playback, 1 as recorded.

    Returns
    -------
    dict
        The metrics: metres, degrees, milliseconds, shares 0..1.

    """
    from pathlib import Path

    from geo_perception.commands.replay import replay
    from geo_perception.datasets.sample_world import write_sample_world
    from geo_perception.share import share_file

    world = Path(output) / 'world'
    if not (world / 'test').exists():
        write_sample_world(world, passes=('test',))
    return replay(str(world / 'test'),
                  relocalizer=str(share_file('models/sample_world.safetensors')), rate=rate,
                  json=str(Path(output) / 'metrics.json'), report=str(output))
