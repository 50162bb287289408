# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What holds for every test; the environment must be set before torch or rclpy is imported."""

import importlib.util
import os
from pathlib import Path
import re
import signal
import sys
import tempfile

from hypothesis import HealthCheck, settings
import pytest

_LOGS = tempfile.TemporaryDirectory(prefix='geo_perception_ros_log_')
os.environ.update(
    OMP_WAIT_POLICY='PASSIVE',
    OPENBLAS_NUM_THREADS='1',
    ROS_AUTOMATIC_DISCOVERY_RANGE='OFF',
    ROS_LOG_DIR=_LOGS.name,
    ROS_PYTHON_CHECK_FIELDS='1',
)
os.environ.pop('ROS_LOCALHOST_ONLY', None)
# A shell's background jobs ignore Ctrl-C, and so would every process that is to be ended by it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same few cases in every run of the suite; others, and many of them, in make nightly.
_QUIET = {'deadline': None, 'database': None, 'suppress_health_check': list(HealthCheck)}
settings.register_profile('test', max_examples=6, derandomize=True, **_QUIET)
settings.register_profile('nightly', max_examples=240, print_blob=True, **_QUIET)
settings.load_profile('test')

if importlib.util.find_spec('rclpy') is None:
    collect_ignore = [path.name for path in Path(__file__).parent.glob('test_*.py')
                      if re.search(r'ros_harness|field_(day|page)|_scene import|'
                                   r'geo_perception\.(ros|nodes)', path.read_text())]


def pytest_addoption(parser):
    """Add the option that writes a page of the documentation."""
    parser.addoption('--reliability', action='store_true',
                     help='write docs/reliability.md from the tests test_field_*.py')


def pytest_sessionfinish(session, exitstatus):
    """Write the page, where it was asked for and all of it has been seen."""
    if session.config.getoption('reliability') and exitstatus == 0:
        from field_page import CASES, PAGE, page, ROWS

        assert {case[1:] for case in CASES} == set(ROWS), 'run all tests test_field_*.py'
        PAGE.write_text(page())


def pytest_report_header():
    """Say which tests are left out."""
    return [f'rclpy is not installed, left out: {name}'
            for name in globals().get('collect_ignore', [])]


@pytest.fixture
def graph():
    """Yield a ROS graph that nobody else sees, see `ros_harness.Graph`."""
    from ros_harness import Graph

    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def tf(graph):
    """Return a function that publishes transforms, where tf2_msgs is installed."""
    from rclpy.qos import DurabilityPolicy, QoSProfile

    from geo_perception.ros.messages import transform_stamped

    TFMessage = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed').TFMessage
    qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = graph.peer.create_publisher(TFMessage, '/tf_static', qos)
    moving = graph.peer.create_publisher(TFMessage, '/tf', 10)

    def publish(stamp, parent, child, T):
        publisher = moving if stamp else static
        publisher.publish(TFMessage(transforms=[transform_stamped(stamp, parent, child, T)]))

    publish.message_class = TFMessage
    return publish


@pytest.fixture(scope='module')
def without_openvino(tmp_path_factory):
    """Let this process and its children compute in PyTorch: converting a network takes seconds."""
    folder = tmp_path_factory.mktemp('without_openvino')
    (folder / 'openvino.py').write_text("raise ImportError('left out in this test')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'openvino', None)
        patch.setenv('PYTHONPATH', str(folder), prepend=os.pathsep)
        yield


@pytest.fixture
def two_graphs(monkeypatch):
    """Yield two ROS graphs that see each other, and others in their domain on this machine."""
    from ros_harness import DOMAIN, Graph

    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
    graphs = Graph(), Graph('other')
    yield graphs
    for graph in graphs:
        graph.close()


@pytest.fixture(scope='session')
def field_models(tmp_path_factory):
    """Return small model files for all nodes, see `field_day.write_models`."""
    from field_day import write_models

    return write_models(tmp_path_factory.mktemp('models'))


@pytest.fixture
def day(request, field_models):
    """Yield the day of one node, not started; its row must be that of docs/reliability.md."""
    from field_day import Day
    from field_page import check_row

    graph = request.getfixturevalue('two_graphs')[0] \
        if 'two_graphs' in request.fixturenames else request.getfixturevalue('graph')
    day = Day(graph, request.function.fault, request.param, field_models[request.param])
    yield day
    check_row(request, day.fault, day.name)
