# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How long it takes to import the package, and to bring the node to active.

While it is configured, the node imports the pipeline, and loads and warms up the model. The share
of the latter, which depends on the model, is measured in a process of its own.
"""

from pathlib import Path
import subprocess
import sys
import tempfile
import time

from harness import argument_parser, Results
import numpy as np

from geo_perception.progress import track

_IMPORT = """
import time
started = time.perf_counter()
import geo_perception
print(time.perf_counter() - started)
"""
_LOAD = """
import sys, time
started = time.perf_counter()
from geo_perception.inference.relocalizer import Relocalizer
imported = time.perf_counter()
Relocalizer.load(sys.argv[1])
print(imported - started, time.perf_counter() - imported)
"""


def main():
    """Run the benchmark."""
    arguments = argument_parser(__doc__, rounds=10).parse_args()
    results = Results(arguments)
    times = {'import geo_perception': [], 'import of the pipeline': [],
             'model: load and warm-up': [], 'node: process to constructed': [],
             'node: constructed to configured': [], 'node: configured to active': []}
    with tempfile.TemporaryDirectory() as folder:
        from untrained_model import write_untrained_model

        path = Path(folder, 'model.safetensors')
        write_untrained_model(path, 'posenet_lite')
        for _ in track(range(arguments.rounds), 'Starting'):
            row = [*_run(_IMPORT), *_run(_LOAD, path), *_start_node(path)]
            for seconds, value in zip(times.values(), row):
                seconds.append(value)
    times = {name: np.array(seconds) for name, seconds in times.items()}
    results.times('fresh processes', times)
    results.target('import geo_perception, s', np.median(times['import geo_perception']), 0.2)
    whole = sum(times[name] for name in times if name.startswith('node: '))
    load, imports = times['model: load and warm-up'], times['import of the pipeline']
    warm_up = times['node: constructed to configured'] * load / (load + imports)
    results.note('process to active, model warm-up included', f'{np.median(whole):.2f} s')
    results.target('process to active without model load and warm-up, s',
                   np.median(whole - warm_up), 5.0)
    results.write()


def _run(code, *arguments):
    """Return the numbers that a piece of Python prints in a fresh interpreter."""
    output = subprocess.run([sys.executable, '-c', code, *map(str, arguments)], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    return [float(number) for number in output.split()]


def _start_node(path):
    """Return the seconds that each stage of a start of the node takes, seen from outside."""
    from live_node import Camera, POSE_TOPIC, RelocalizeProcess

    from geo_perception.ros.private_graph import private_graph

    with private_graph() as peer:
        camera = Camera(peer)
        started = time.perf_counter()
        with RelocalizeProcess(path) as node:
            instants = [node.wait_for(condition) for condition in (
                lambda: peer.count_publishers('/diagnostics') > 0,
                lambda: peer.count_publishers(POSE_TOPIC) > 0,
                camera.is_heard)]
    return np.diff([started, *instants]).tolist()


if __name__ == '__main__':
    main()
