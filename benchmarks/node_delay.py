# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Delay and memory of the live nodes, from a published 640x480 image to the received pose or depth.

Delay: the camera is slow enough for the node, and the pipeline alone takes turns with it in this
process. Age: the camera gives 30 images a second to a network too large for this machine.
Memory, threads and open files: of the node's process, at 30 images a second. Those alone, for a
soak of half an hour: ``--rounds 0 --minutes 30``.
"""

from functools import partial
from pathlib import Path
import tempfile
import time

from harness import argument_parser, busy_processes, Results
import numpy as np

from geo_perception.progress import track

CAMERA_RATE = 30.0   # Hz
IMAGES = 10          # a round
# A machine is slow when the pipeline takes this many camera periods.
SLOW = 2.0
CROPS = {'posenet_lite': ((224, 288), (448, 576), (896, 1152)),
         'sfmlearner': ((128, 416), (256, 832), (384, 1248))}
# The networks whose delay is measured; the last is watched for its memory, and made too large.
ARCHITECTURES = {'relocalization': ('posenet', 'posenet_lite'), 'geometry': ('sfmlearner',)}


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=10)
    parser.add_argument('--minutes', type=float, default=1.0,
                        help='length of the memory test, 30 for a soak; 0 leaves it out')
    parser.add_argument('--busy', nargs='+', type=int, default=[0, 2],
                        help='numbers of busy processes to measure the delay beside')
    parser.add_argument('--jobs', nargs='+', default=[*ARCHITECTURES], choices=[*ARCHITECTURES],
                        help='nodes to measure')
    arguments = parser.parse_args()
    results = Results(arguments)
    for job in arguments.jobs:
        _measure_job(job, arguments, results)
    results.write()


def _measure_job(job, arguments, results):
    """Measure one node."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'model.safetensors')
        for architecture in ARCHITECTURES[job]:
            pipeline = _make(path, architecture)
            if arguments.rounds:
                _measure(job, path, partial(
                    _delay, pipeline=pipeline, arguments=arguments, architecture=architecture,
                    results=results))
        if arguments.minutes:
            _measure(job, path, partial(_memory, minutes=arguments.minutes,
                                        architecture=architecture, results=results))
        pipeline = _make_slow(path, architecture, results) if arguments.rounds else None
        if pipeline is not None:
            _measure(job, path, partial(_age, pipeline=pipeline, rounds=arguments.rounds,
                                        architecture=architecture, results=results))


def _make(path, architecture, crop=None):
    """Write a model file and return its pipeline, as the node will make it."""
    from untrained_model import pipeline_on_camera, write_untrained_model

    write_untrained_model(path, architecture, crop)
    return pipeline_on_camera(path)[1]


def _make_slow(path, architecture, results):
    """Write the smallest model that is too slow for the camera; return its pipeline or None."""
    for crop in CROPS[architecture]:
        pipeline = _make(path, architecture, crop)
        # The fastest call: a disturbed one would make the machine look slow.
        fastest = _time(pipeline, 10).min()
        if fastest > SLOW / CAMERA_RATE:
            break
    else:
        results.note('network too large for this machine', 'none of ours, there is no age to see')
        return None
    results.note('network too large for this machine',
                 f'{architecture} at {crop[0]}x{crop[1]}, at best {1e3 * fastest:.0f} ms an image')
    return pipeline


def _measure(job, path, measure):
    """Call a function with a camera and a node that is awake."""
    from live_node import Camera, CameraNodeProcess

    from geo_perception.ros.private_graph import private_graph

    with private_graph() as peer:
        camera = Camera(peer, job)
        with CameraNodeProcess(job, path) as node:
            node.wait_for(camera.is_heard)
            # The first images may go before both sides know each other.
            node.wait_for(lambda: camera.run(2.0, 2).size > 0)
            measure(camera, node)


def _time(function, calls, period=0.0):
    """Return the seconds that each of some calls takes, begun in steps of a period."""
    times = np.zeros(calls)
    begin = time.perf_counter()
    for i in range(calls):
        time.sleep(max(0.0, begin + i * period - time.perf_counter()))
        started = time.perf_counter()
        function()
        times[i] = time.perf_counter() - started
    return times


def _delay(camera, node, pipeline, arguments, architecture, results):
    """Compare the delay of the node with the time of the pipeline."""
    for busy in arguments.busy:
        times = {'pipeline, one after the other': [], 'pipeline, at the rate of the camera': [],
                 'image published to answer received': []}
        with busy_processes(busy):
            # Half of the time the node is idle: an image never waits for the one before.
            rate = min(CAMERA_RATE, 0.5 / np.median(_time(pipeline, 5)))
            for _ in track(range(arguments.rounds), 'Measuring the delay'):
                for rows, measure in zip(times.values(), (
                        lambda: _time(pipeline, IMAGES),
                        lambda: _time(pipeline, IMAGES, 1.0 / rate),
                        lambda: camera.run(rate, IMAGES))):
                    rows.append(measure())
        where = f'{architecture}, ' + (f'beside {busy} busy processes' if busy else 'alone')
        results.times(f'{where}, {rate:.1f} Hz',
                      {name: np.concatenate(rows) for name, rows in times.items()})
        medians = [np.array([np.median(row) for row in rows]) for rows in times.values()]
        for name, bare in zip(times, medians[:2]):
            results.target(
                f'delay less {name}, ms, {where}', 1e3 * np.median(medians[2] - bare),
                0.15 * 1e3 * np.median(bare) + 5.0)


def _age(camera, node, pipeline, rounds, architecture, results):
    """Compare the age of answers under too many images with the time of the pipeline."""
    bare, ages, published = [], [], 0
    for _ in track(range(rounds), 'Measuring the age'):
        bare.append(_time(pipeline, 3))
        images = int(10 * np.median(bare) * CAMERA_RATE)
        published += images
        ages.append(camera.run(CAMERA_RATE, images))
    results.times(f'{architecture}, too slow for 30 Hz', {
        'pipeline': np.concatenate(bare), 'age of the answer': np.concatenate(ages)})
    answered = sum(map(len, ages))
    results.note(f'images answered, {architecture}', f'{answered} of {published}')
    results.target(f'95 % of ages / median pipeline time, {architecture}',
                   np.percentile(np.concatenate(ages), 95) / np.median(bare), 2.2)


def _memory(camera, node, minutes, architecture, results):
    """Watch memory, threads and open files of the node at the full rate of the camera."""
    seconds = max(5, round(60 * minutes))
    watched, answered = [], 0
    for _ in track(range(seconds), 'Watching memory'):
        answered += len(camera.run(CAMERA_RATE, round(CAMERA_RATE)))
        watched.append(node.resources())
    resident, threads, files = np.transpose(watched)
    fifth = seconds // 5
    before, after = np.median(resident[fifth:2 * fifth]), np.median(resident[-fifth:])
    results.note(f'images answered in {minutes:g} minutes, {architecture}',
                 f'{answered} of {seconds * round(CAMERA_RATE)}')
    results.note(f'resident memory, {architecture}',
                 f'{before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB')
    results.target(f'growth of memory within {minutes:g} minutes, %, {architecture}',
                   100 * (after - before) / before, 1.0)
    for name, numbers in (('threads', threads), ('open files', files)):
        results.note(f'{name}, {architecture}', f'{numbers.min()} to {numbers.max()}')
        results.target(f'more {name} within {minutes:g} minutes, {architecture}',
                       np.median(numbers[-fifth:]) - np.median(numbers[fifth:2 * fifth]), 0.0)


if __name__ == '__main__':
    main()
