# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A real browser without a window, where one is installed: opens a page, presses keys, looks."""

import base64
from contextlib import contextmanager
import json
import os
import select
import shutil
import subprocess
import sys
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_TIMEOUT = 60.0   # s
# A browser speaks the protocol on the file descriptors 3 and 4, which may be in use here.
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser():
    """Return a browser that speaks the DevTools protocol, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(width=1280, height=900):
    """Give a tab."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()

    process = subprocess.Popen(
        [sys.executable, '-c', _LAUNCH, str(to_browser), str(from_browser), find_browser(),
         '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
         '--remote-debugging-pipe', f'--window-size={width},{height}', 'about:blank'],
        pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Tab(read, write, width, height)
    finally:
        process.terminate()
        process.wait(10)
        os.close(read)
        os.close(write)


class Tab:
    """One page."""

    def __init__(self, read, write, width, height):
        self._read, self._write, self._pending, self._next = read, write, b'', 0
        self._session, self._events = None, []
        target = next(t for t in self._call('Target.getTargets')['targetInfos']
                      if t['type'] == 'page')
        self._session = self._call('Target.attachToTarget', targetId=target['targetId'],
                                   flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log'):
            self._call(f'{domain}.enable')
        self._call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                   deviceScaleFactor=1, mobile=False)

    def visit(self, path, fragment=''):
        """Load a file and return the seconds until everything on it had loaded."""
        for address in ('about:blank', f'file://{path}{fragment}'):
            self._events.clear()
            started = time.monotonic()
            self._call('Page.navigate', url=address)
            self._wait_for('Page.loadEventFired')
        return time.monotonic() - started

    def run(self, script):
        """Return the value of an expression in JavaScript."""
        found = self._call('Runtime.evaluate', expression=script, returnByValue=True,
                           awaitPromise=True)
        assert 'exceptionDetails' not in found, found['exceptionDetails']
        return found['result'].get('value')

    def press(self, key, code=0, shift=False):
        """Press a key, as a person does."""
        for kind in ('rawKeyDown', 'keyUp'):
            self._call('Input.dispatchKeyEvent', type=kind, key=key, code=key,
                       windowsVirtualKeyCode=code, modifiers=8 if shift else 0)

    def complaints(self):
        """Return what went wrong on the page."""
        self.run('0')
        return [event for event in self._events
                if event['method'] in ('Runtime.exceptionThrown', 'Log.entryAdded')]

    def screenshot(self, path, whole=True):
        """Write what is seen, or the whole page, as PNG."""
        data = self._call('Page.captureScreenshot', format='png', captureBeyondViewport=whole,
                          **({'clip': self._whole()} if whole else {}))
        path.write_bytes(base64.b64decode(data['data']))

    def _whole(self):
        size = self._call('Page.getLayoutMetrics')['cssContentSize']
        return {**size, 'scale': 1}

    def _call(self, method, **parameters):
        self._next += 1
        number = self._next
        message = {'id': number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == number:
                assert 'error' not in answer, answer
                return answer['result']
            if 'method' in answer:
                self._events.append(answer)

    def _wait_for(self, method):
        while not any(event['method'] == method for event in self._events):
            answer = self._receive()
            if 'method' in answer:
                self._events.append(answer)

    def _receive(self):
        deadline = time.monotonic() + _TIMEOUT
        while b'\0' not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            assert ready, 'the browser does not answer'
            chunk = os.read(self._read, 1 << 20)
            assert chunk, 'the browser is gone'
            self._pending += chunk
        message, _, self._pending = self._pending.partition(b'\0')
        return json.loads(message)
