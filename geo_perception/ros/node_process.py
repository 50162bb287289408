# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A node in a process of its own that is always ended."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile

from geo_perception.errors import ReplayError

_STOP_TIMEOUT = 10.0   # s; a node finishes the image in work before it ends
_PR_SET_PDEATHSIG = 1
_LOG_LINE = re.compile(r'^\[(?:ERROR|FATAL)\] \[[\d.]+\] \[[^\]]*\]: (.*)$|^error: (.*)$')


class NodeProcess:
    """
    A running ``python -m module``; a context manager that always ends it and its children.

    Parameters
    ----------
    module : str
        With a ``main``.
    arguments : list of str
        Command line.
    own_session : bool
        Whether it has a session of its own. Linux shares the cores among sessions first, so that
        several busy ones get more of them.

    """

    def __init__(self, module, arguments, own_session=True):
        self._command = [sys.executable, '-m', module, *arguments]
        self._own_session = own_session

    def __enter__(self):
        """Start the process in a group of its own, in the present environment."""
        self._log = tempfile.TemporaryFile(mode='w+', errors='replace')
        libc = ctypes.CDLL(None)
        # Where this process is killed outright, the kernel ends the node.
        self._process = subprocess.Popen(
            self._command, stdout=self._log, stderr=subprocess.STDOUT,
            start_new_session=self._own_session, preexec_fn=lambda: self._prepare(libc))
        return self

    def __exit__(self, *_):
        """Ask the group to end, and make it where it does not."""
        try:
            self._signal(signal.SIGINT)
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._log.close()

    def check(self):
        """
        Raise when the process has ended.

        Raises
        ------
        ReplayError
            With the process's own last error sentence.

        """
        code = self._process.poll()
        if code is not None:
            raise ReplayError(f'the node ended with exit code {code}: '
                              f"{self.last_error() or 'it printed no error'}")

    def last_error(self):
        """
        Return the last error sentence that the process has printed, empty without any.

        Returns
        -------
        str

        """
        self._log.seek(0)
        lines = self._log.read().splitlines()
        found = [match for match in map(_LOG_LINE.match, lines) if match]
        if found:
            return found[-1].group(1) or found[-1].group(2)
        return lines[-1] if lines else ''

    def _prepare(self, libc):
        """Set up the new process, before it runs the command."""
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if not self._own_session:
            os.setpgid(0, 0)

    def _signal(self, number):
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
