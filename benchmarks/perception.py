# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Both nodes on one 640x480 camera: in one process or two, beside the two pipelines without ROS.

The shipped models, on rendered images of the place that they know. The pipelines alone, the nodes
in one process and the nodes in two take turns. Throughput is what a machine does in a second of
the work of both pipelines; a camera too slow for the machine limits what can be asked.
"""

from contextlib import contextmanager, ExitStack
from itertools import cycle
import json
from statistics import median
import threading
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from harness import argument_parser, Results
from live_node import MeasuredProcess
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from geo_perception.datasets.sample_world.world import SampleWorld
from geo_perception.image_codec import image_fields
from geo_perception.progress import track
from geo_perception.ros.messages import camera_info_message, ns_to_stamp, stamp_to_ns
from geo_perception.ros.private_graph import private_graph
from geo_perception.share import share_file

CAMERA_RATE = 30.0   # Hz
# Slow enough for both nodes to work on every image, as long as decodes are counted.
COUNTING_RATE, COUNTED = 3.0, 15
# Of the pass that the models were not trained on; shown to and fro.
FIRST, FRAMES = 100, 12
MODELS = {'relocalize': 'models/sample_world.place',
          'geometry': 'models/sample_world_geometry.safetensors'}
# What each node publishes last of an image.
ANSWERS = {'relocalize': (PoseWithCovarianceStamped, 'pose_with_covariance'),
           'geometry': (Image, 'depth')}
_CLASSES = {'raw': Image, 'compressed': CompressedImage}


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument('--seconds', type=float, default=6.0, help='length of a turn')
    parser.add_argument('--transports', nargs='+', default=['raw', 'compressed'],
                        choices=[*_CLASSES], help='how images travel')
    arguments = parser.parse_args()
    results = Results(arguments)
    frames = _frames()
    bare = _Pipelines(frames)
    for transport in arguments.transports:
        with private_graph() as peer, ExitStack() as stack:
            setups = {name: stack.enter_context(_setup(peer, name, frames, transport))
                      for name in ('one', 'two')}
            _measure(bare, setups, arguments, transport, results)
    results.write()


def _frames():
    """Return some images of a drive and back, with their camera."""
    drive = SampleWorld().drive('test', FIRST + FRAMES)
    there = [drive[i] for i in track(range(FIRST, FIRST + FRAMES), 'Rendering')]
    return there + there[-2:0:-1]


class _Pipelines:
    """Both pipelines without ROS, one after the other."""

    def __init__(self, frames):
        from geo_perception.inference.geometry import GeometryPipeline
        from geo_perception.inference.verified import load_relocalizer

        self._relocalizer = load_relocalizer(share_file(MODELS['relocalize']), True)
        self._geometry = GeometryPipeline.load(share_file(MODELS['geometry']))
        self._frames, self._stamp = cycle(frames), 0
        self.times = {name: [] for name in MODELS}

    def run(self, seconds):
        """Work for some seconds; return the median time of each on one image."""
        times = {name: [] for name in MODELS}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            frame = next(self._frames)
            self._stamp += round(1e9 / CAMERA_RATE)
            for name, work in (
                    ('relocalize', lambda: self._relocalizer(frame.image, frame.camera)),
                    ('geometry', lambda: self._geometry(frame.image, frame.camera, self._stamp))):
                started = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - started)
        for name, values in times.items():
            self.times[name] += values
        return {name: median(values) for name, values in times.items()}


class _Setup:
    """The nodes, in one process or two, and a camera before them."""

    def __init__(self, peer, namespace, frames, transport, processes):
        self.processes = processes
        self._images = cycle([_message(frame, transport) for frame in frames])
        self._camera = frames[0].camera
        topic = f'/{namespace}/image_raw' + ('' if transport == 'raw' else '/compressed')
        self._publisher = peer.create_publisher(_CLASSES[transport], topic,
                                                qos_profile_sensor_data)
        self._info = peer.create_publisher(CameraInfo, f'/{namespace}/camera_info',
                                           qos_profile_sensor_data)
        self._stamps, self._lock = {name: set() for name in MODELS}, threading.Lock()
        self._values, self._reported = {name: {} for name in MODELS}, dict.fromkeys(MODELS, 0.0)
        for name, (kind, answer) in ANSWERS.items():
            peer.create_subscription(kind, f'/{namespace}/{name}/{answer}',
                                     lambda message, name=name: self._on_answer(name, message),
                                     100)
        peer.create_subscription(Odometry, f'/{namespace}/geometry/odometry', lambda _: None, 100)
        self._prefixes = {f'/{namespace}/{name}:': name for name in MODELS}
        peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)

    def wait(self):
        """Wait until both nodes answer."""
        self.processes[0].wait_for(lambda: all(
            values.get('state') == 'active' for values in self._values.values()))
        self.processes[0].wait_for(lambda: all(self.run(1.0)['answers'].values()))

    def run(self, seconds, rate=CAMERA_RATE):
        """Publish images for a while; return what came of it."""
        with self._lock:
            self._stamps = {name: set() for name in MODELS}
        before = {name: dict(values) for name, values in self._values.items()}
        busy = sum(process.processor_seconds() for process in self.processes)
        started = time.perf_counter()
        published = round(seconds * rate)
        for i in range(published):
            time.sleep(max(0.0, started + i / rate - time.perf_counter()))
            stamp = ns_to_stamp(time.time_ns())
            info = camera_info_message(0, self._camera.frame_id, self._camera)
            image = next(self._images)
            image.header.stamp = info.header.stamp = stamp
            self._info.publish(info)
            self._publisher.publish(image)
        elapsed = time.perf_counter() - started
        with self._lock:
            answers = {name: len(stamps) for name, stamps in self._stamps.items()}
        busy = sum(process.processor_seconds() for process in self.processes) - busy
        # What is counted is counted once all that waited is done.
        end = time.monotonic()
        self.processes[0].wait_for(lambda: min(self._reported.values()) > end + 1.0)
        counts = {name: {key: int(self._values[name][key]) - int(before[name].get(key, 0))
                         for key in ('processed', 'decoded')} for name in MODELS}
        return {'answers': answers, 'seconds': elapsed, 'processor': busy, 'counts': counts}

    def _on_answer(self, name, message):
        with self._lock:
            self._stamps[name].add(stamp_to_ns(message.header.stamp))

    def _on_diagnostics(self, message):
        for status in message.status:
            name = self._prefixes.get(status.name.split(' ')[0])
            if name is not None:
                self._values[name] = {pair.key: pair.value for pair in status.values}
                self._reported[name] = time.monotonic()


@contextmanager
def _setup(peer, name, frames, transport):
    """Yield a `_Setup` whose nodes are awake."""
    own = {node: ['-p', f'model:={json.dumps(str(share_file(model)))}', '-p', "base_frame:=''"]
           for node, model in MODELS.items()}
    both = ['-r', f'__ns:=/{name}', '-r', 'image:=image_raw', '-p',
            f'image_transport:={transport}']
    if name == 'one':
        commands = [('perception', ['--relocalize', *own['relocalize'], '--geometry',
                                    *own['geometry'], '--ros-args', *both])]
    else:
        commands = [(node, ['--ros-args', *both, *arguments]) for node, arguments in own.items()]
    with ExitStack() as stack:
        # In this session, as under one launch: two of their own would get twice the cores' time.
        processes = [stack.enter_context(MeasuredProcess(
            f'geo_perception.nodes.{module}', words, own_session=False))
            for module, words in commands]
        setup = _Setup(peer, name, frames, transport, processes)
        setup.wait()
        yield setup


def _message(frame, transport):
    """Return an image message, the stamp missing."""
    if transport == 'raw':
        message = Image(**image_fields(frame.image, 'rgb8'))
    else:
        jpeg = cv2.imencode('.jpg', frame.image[..., ::-1])[1]
        message = CompressedImage(format='rgb8; jpeg compressed bgr8', data=jpeg.tobytes())
    message.header.frame_id = frame.camera.frame_id
    return message


def _measure(bare, setups, arguments, transport, results):
    """Let the pipelines and both setups take turns."""
    figures = {name: [] for name in setups}
    processor, answered = ({name: [] for name in setups} for _ in range(2))
    for i in track(range(arguments.rounds), f'Measuring, {transport}'):
        times = bare.run(arguments.seconds)
        for name in sorted(setups, reverse=i % 2):
            found = setups[name].run(arguments.seconds)
            # Seconds of pipeline that a second of nodes is worth, out of what there is to do.
            work = sum(found['answers'][node] * times[node] for node in MODELS) / found['seconds']
            possible = min(1.0, CAMERA_RATE * sum(times.values()))
            figures[name].append(work / possible)
            counts = found['counts']
            pairs = sum(counts[node]['processed'] * times[node] for node in MODELS) / sum(
                times.values())
            processor[name].append(found['processor'] / pairs)
            answered[name].append([found['answers'][node] / found['seconds'] for node in MODELS])
    where = f'{transport} images'
    for node in MODELS:
        results.note(f'pipeline of {node} alone',
                     f'{1e3 * median(bare.times[node]):.1f} ms, median')
    for name in setups:
        title = f"{name} process{'es' if name == 'two' else ''}, {where}"
        rates = np.median(answered[name], 0)
        results.note(f'answers a second, {title}', ', '.join(
            f'{node} {rate:.1f}' for node, rate in zip(MODELS, rates)))
        results.note(f'processor time of a pair of answers, {title}',
                     f'{1e3 * median(processor[name]):.1f} ms')
        results.note(f'memory, {title}', f'{_memory(setups[name]):.0f} MiB')
        counts = setups[name].run(COUNTED / COUNTING_RATE, COUNTING_RATE)['counts']
        decodes = (sum(count['decoded'] for count in counts.values())
                   / max(count['processed'] for count in counts.values()))
        if name == 'one':
            results.target(f'decodes of an image, {title}', decodes, 1.0)
        else:
            results.note(f'decodes of an image, {title}', f'{decodes:.2f}')
        results.target(f'throughput over the pipelines back to back, {title}',
                       median(figures[name]), 0.9, at_least=True)
    results.note(f'one process over two, throughput, {where}', '{:.3f}'.format(
        median(a / b for a, b in zip(figures['one'], figures['two']))))


def _memory(setup):
    """Return the resident memory of all processes, MiB."""
    return sum(process.resources()[0] for process in setup.processes) / 2 ** 20


if __name__ == '__main__':
    main()
