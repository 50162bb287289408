# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception demo``: the whole road, from a rendered world to a report."""


def demo(output: str = 'demo', rate: float = 1.0):
    """
    Render the sample world, play it into the live nodes with the shipped models, and score them.

    The bag is played once for each node, so that on a small machine neither slows the other: for
    where it is, coarse and verified, at the recorded pace, for how it moves in lock step, since
    odometry needs every image; a model with flow is scored for that and for what moves as well.
    What is there already from an earlier run is not made again.

    Parameters
    ----------
    output : str
        Folder for the bag, ``metrics.json`` and ``report.html``.
    rate : float
        Speed of the first playback, 1 as recorded.

    Returns
    -------
    dict
        Job (``relocalization``, ``depth``, ``odometry``, and ``flow`` and ``motion`` where the
        model has flow and the bag its truth) to metrics: metres, degrees, pixels, milliseconds,
        shares 0..1.

    """
    from pathlib import Path

    from geo_perception.commands.replay import play, require_ros

    require_ros()
    from geo_perception.commands.replay_output import present_replay
    from geo_perception.datasets.recording import open_recording
    from geo_perception.datasets.sample_world import write_sample_world
    from geo_perception.errors import ConfigurationError
    from geo_perception.model_file import load_model_file
    from geo_perception.share import share_file

    world = Path(output) / 'world'
    if not (world / 'test').exists():
        write_sample_world(world, passes=('test',))
    bag = str(world / 'test')
    sequence = open_recording(bag)
    place = load_model_file(share_file('models/sample_world.place'), 'relocalization')
    results = play(sequence, relocalizer=place, rate=rate, start_timeout=180.0)
    try:
        way = load_model_file(share_file('models/sample_world_geometry.safetensors'), 'geometry')
    except ConfigurationError:
        pass   # installed without that model: relocalization alone
    else:
        results.update(play(sequence, geometry=way, lock_step=True, start_timeout=180.0))
    return present_replay(sequence, bag, **results, json=str(Path(output) / 'metrics.json'),
                          report=str(output))
