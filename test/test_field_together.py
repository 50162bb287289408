# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Two nodes in one process, see `field_page`; two such graphs must not see each other."""

import os
from pathlib import Path
import signal
import time

from field_day import BOTH, KINDS
from field_page import cases, check_row, ROWS
from field_processes import Crew, TIMEOUT
from lifecycle_msgs.msg import Transition
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import start_process

from geo_perception.ros.diagnostics import ERROR, OK

pytestmark = pytest.mark.usefixtures('without_openvino')

HERE = Path(__file__).parent
SECTION = 'Two nodes in one process'


def command(models):
    """Return the arguments of the interpreter that runs both."""
    return ['-m', 'geo_perception.nodes.perception',
            '--relocalize', '-p', f"model:={models['relocalize']}",
            '--geometry', '-p', f"model:={models['geometry']}", '-p', "base_frame:=''",
            '--ros-args', '-p', 'watchdog_s:=0.4']


@pytest.fixture(scope='module')
def together(without_openvino, field_models):
    """Return `relocalize` and `geometry` in one process, answering."""
    crew = Crew({'perception': command(field_models)}, BOTH)
    crew.wait_for(*BOTH)
    yield crew
    crew.close()


@cases(SECTION, [(
    'A manager takes one down (`deactivate`, `cleanup`) while the other works; it is brought up '
    'again.', node) for node in BOTH])
def test_one_of_two_is_taken_down(together, request, text, node):
    """The other has its images, whoever held the subscription."""
    other, = set(BOTH) - {node}
    together.is_well(*BOTH)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert together.graph.change_state(f'/{node}', transition)
        together.wait_for(other)
    known = len(together.heard[node])
    together.says(OK, {node: 'The node is unconfigured; it does nothing until activated.'})
    together.is_well(other)
    assert len(together.heard[node]) == known
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert together.graph.change_state(f'/{node}', transition)
    ROWS[text, node] = {
        'published': f'nothing; all of `{other}`',
        'diagnostics': 'OK: `The node is unconfigured; it does nothing until activated.`; '
                       f'`{other}` says OK',
        **together.recovery(*BOTH)}
    check_row(request, text, node)


@cases(SECTION, [(
    'The model of one is swapped (`ros2 param set … model …`) while the other works.', node)
    for node in BOTH])
def test_the_model_of_one_of_two(together, request, field_models, text, node):
    """The other answers before, meanwhile and afterwards; of a file that is none both know."""
    def swap(name):
        result, = together.graph.call(SetParameters, f'/{node}/set_parameters', parameters=[
            Parameter('model', value=field_models[name]).to_parameter_msg()]).results
        together.wait_for(*BOTH)
        return result.successful

    assert not swap('text')
    assert swap(f'other {node}')
    if node == 'relocalize':
        assert together.heard[node][-1].header.frame_id == 'cellar'
    assert swap(node)
    began = time.monotonic()
    together.is_well(*BOTH)
    ROWS[text, node] = {
        'published': 'nothing while the file is loaded; all of the other',
        'diagnostics': f'OK: `{KINDS[node].verb} at … Hz from images at … Hz.`',
        'results': '0.0', 'words': f'{time.monotonic() - began:.1f}'}
    check_row(request, text, node)


@cases(SECTION, [
    ('The camera is unplugged, or its driver crashes; it comes back.', 'perception')])
def test_the_camera_of_both(together, request, text, node):
    """Both say so, and both go on."""
    together.unplug()
    sentence = 'No image for … s: nobody publishes /image; no camera image is published at all; ' \
               'start the camera, or give both sides the same ROS_DOMAIN_ID.'
    together.says(ERROR, dict.fromkeys(BOTH, sentence))
    together.now += 100 * 10**8
    together.plug_in()
    ROWS[text, node] = {'published': 'nothing', 'diagnostics': f'ERROR: `{sentence}`, of both',
                        **together.recovery(*BOTH)}
    check_row(request, text, node)


@cases(SECTION, [('SIGTERM ends both; they are started again.', 'perception')])
def test_a_signal_to_both(together, request, text, node):
    """The program ends as one that was asked to, without a word; with stand-ins it starts."""
    code, errors = together.end('perception', signal.SIGTERM)
    assert code == 0 and 'Traceback' not in errors, errors
    together.programs['perception'] = [
        str(HERE / 'stand_in_perception.py'), '--geometry', '-p', "base_frame:=''", '--relocalize']
    together.start('perception')
    ROWS[text, node] = {'published': 'nothing',
                        'diagnostics': 'none, which an aggregator calls stale',
                        **together.recovery(*BOTH)}
    check_row(request, text, node)


@cases(SECTION, [('SIGINT ends both while OpenVINO takes in the networks.', 'perception')])
def test_a_start_that_is_cut_short(request, field_models, text, node):
    """Two networks must not be traced at once: a process once died of that, at a wild address."""
    process = start_process(command(field_models), PYTHONPATH=str(HERE.parent))
    log = []
    for line in process.stderr:
        log.append(line)
        if 'listening on' in line:      # one is ready, the other at work
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0 and 'Traceback' not in errors, [*log, errors]
    ROWS[text, node] = {'published': 'nothing', 'results': '–', 'words': '–',
                        'diagnostics': 'none; the program ends with exit code 0'}
    check_row(request, text, node)
