# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Signals to the processes of nodes, see `field_page`."""

from pathlib import Path
import signal

from field_day import ALL, BOTH
from field_page import cases, check_row, ROWS
from field_processes import Crew
import pytest

pytestmark = pytest.mark.usefixtures('without_openvino')

HERE = Path(__file__).parent


@pytest.fixture(scope='module')
def crew(without_openvino, field_models):
    """Return all nodes in processes of their own, two with stand-ins for networks, answering."""
    crew = Crew({
        'relocalize': [str(HERE / 'stand_in_relocalizer.py')],
        'geometry': [str(HERE / 'stand_in_geometry.py'), '--ros-args', '-p', "base_frame:=''"],
        'stereo_depth': ['-m', 'geo_perception.nodes.stereo_depth', '--ros-args',
                         '-p', f"model:={field_models['stereo_depth']}", '-p', 'threads:=1',
                         '-p', 'post_process:=false']}, ALL)
    crew.wait_for(*ALL)
    yield crew
    crew.close()


@cases('Processes', [
    *((f'{name} ends it while the others live; it is started again.', node)
      for name in ('SIGTERM', 'SIGINT') for node in ALL),
    *(('SIGKILL ends it while the others live; it is started again.', node) for node in BOTH)])
def test_a_signal_to_one_of_the_nodes(crew, request, text, node):
    """The others go on without a word; the one is back as soon as it is started."""
    number = getattr(signal, text.split()[0])
    others = [other for other in ALL if other != node]
    for each in ALL:
        if crew.processes[each].poll() is not None:    # after a test that failed
            crew.start(each)
            crew.wait_for(each)
    code, errors = crew.end(node, number)
    assert code == (-number if number == signal.SIGKILL else 0), errors
    crew.wait_for(*others)
    known = len(crew.heard[node])     # what it said last may have come only now
    crew.is_well(*others)
    assert len(crew.heard[node]) == known
    crew.start(node)
    ROWS[text, node] = {
        'published': 'nothing; all of the others',
        'diagnostics': 'none, which an aggregator calls stale; the others say OK',
        **crew.recovery(node)}
    check_row(request, text, node)
