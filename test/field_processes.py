# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Nodes as processes on the graph of a test, with one camera before all of them."""

import os
import re
import time

from diagnostic_msgs.msg import DiagnosticArray
from field_day import CAMERA, KINDS, PACE, scenery, SECOND
import pytest
from ros_harness import DOMAIN, Graph, start_process
from sensor_msgs.msg import CameraInfo, Image

from geo_perception.ros.diagnostics import OK
from geo_perception.ros.messages import camera_info_message, image_message, stamp_to_ns

TIMEOUT = 60.0   # s; a program starts, on a busy machine


class Crew:
    """
    Programs that run nodes, a camera and listeners.

    Parameters
    ----------
    programs : dict of str to list of str
        Name of a program to the arguments of the interpreter that runs it.
    nodes : iterable of str
        Of `field_day.KINDS`, all that the programs run.
    **environment
        Further variables of the programs.

    Attributes
    ----------
    heard : dict of str to list
        Messages of the first topic of each node.

    """

    def __init__(self, programs, nodes, **environment):
        with pytest.MonkeyPatch.context() as patch:   # what a context sees is fixed at its start
            patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
            patch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
            self.graph = Graph('robot')
        self.programs, self.nodes, self.environment = programs, tuple(nodes), environment
        self.heard = {}
        for node in nodes:
            topic, (kind, _) = next(iter(KINDS[node].outputs.items()))
            self.heard[node] = self.graph.listen(kind, topic)
        self.statuses = self.graph.listen(DiagnosticArray, '/diagnostics')
        self.processes, self.now = {}, 100 * SECOND
        self.plug_in()
        for program in programs:
            self.start(program)

    def start(self, program):
        """Start a program."""
        self.processes[program] = start_process(self.programs[program], **self.environment)

    def end(self, program, number):
        """Send a program a signal; return its exit code and what it wrote on stderr."""
        process = self.processes[program]
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=TIMEOUT)
        return process.returncode, errors

    def plug_in(self):
        """Connect the camera."""
        self.camera = self.graph.advertise(Image, '/image')
        self.infos = self.graph.advertise(CameraInfo, '/camera_info')

    def unplug(self):
        """Take the camera away."""
        for publisher in (self.camera, self.infos):
            self.graph.peer.destroy_publisher(publisher)
        self.camera = None

    def send(self):
        """Publish one image, where there is a camera."""
        self.now += SECOND // 10
        if self.camera is not None:
            self.infos.publish(camera_info_message(self.now, CAMERA.frame_id, CAMERA))
            self.camera.publish(image_message(
                self.now, CAMERA.frame_id, scenery()[self.now // 10**8 % len(scenery())], 'rgb8'))
        self.graph.spin_for(PACE)

    def wait_for(self, *nodes):
        """Wait until each of these nodes answers to an image from now on."""
        began = self.now

        def answered():
            self.send()
            return all(any(stamp_to_ns(message.header.stamp) > began
                           for message in self.heard[node][-5:]) for node in nodes)

        self._spin_until(answered, f'results of {nodes}')

    def says(self, level, sentences):
        """Wait until each node of a dict says its sentence, in which … stands for anything."""
        patterns = {node: re.compile('.+?'.join(map(re.escape, sentence.split('…'))))
                    for node, sentence in sentences.items()}
        self.statuses.clear()

        def said():
            self.send()
            found = [status for message in self.statuses for status in message.status]
            return all(any(status.level == level and status.name.startswith(f'/{node}:')
                           and pattern.fullmatch(status.message) for status in found)
                       for node, pattern in patterns.items())

        self._spin_until(said, f'the diagnosis {sentences}')

    def is_well(self, *nodes):
        """Wait until each of these nodes says that it works."""
        self.says(OK, {node: f'{KINDS[node].verb} at … Hz from images at … Hz.'
                       for node in nodes})

    def recovery(self, *nodes):
        """Return the seconds until these nodes give results and say so, as cells of a row."""
        began = time.monotonic()
        self.wait_for(*nodes)
        results = time.monotonic() - began
        self.is_well(*nodes)
        return {'results': f'{results:.1f}', 'words': f'{time.monotonic() - began:.1f}'}

    def _spin_until(self, condition, what):
        try:
            self.graph.spin_until(condition, timeout=TIMEOUT, what=what)
        except AssertionError as error:
            said = {status.name: status.message for message in self.statuses
                    for status in message.status}
            raise AssertionError(f'{error}: they say {said}') from None

    def close(self):
        """End all."""
        for process in self.processes.values():
            process.kill()
            process.communicate()
        self.graph.close()
