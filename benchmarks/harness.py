# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What the benchmarks share: command line, interleaved rounds, load, a result table.

Times on a shared machine drift by factors, so every figure is a ratio or difference of things
that took turns in one run (speed.md section 1).
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
import json
import multiprocessing
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from geo_perception.environment import command_line, describe_machine
from geo_perception.process_environment import THREADS
from geo_perception.progress import track

# Ends by itself when the benchmark is killed.
_BUSY_LOOP = 'import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass'
_WARM_UP_CALLS = 3


def argument_parser(description, rounds):
    """
    Return a parser with the arguments of every benchmark.

    Parameters
    ----------
    description : str
        For ``--help``.
    rounds : int
        Default number of rounds.

    Returns
    -------
    argparse.ArgumentParser

    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--rounds', type=int, default=rounds,
                        help='rounds in which all candidates take turns')
    parser.add_argument('--json', metavar='FILE', help='also write the results to this file')
    return parser


def in_a_process_of_its_own(function, *arguments):
    """
    Call a function where nothing else is in memory; the process ends with this one at the latest.

    Parameters
    ----------
    function : callable
        Of a module; what it returns can be pickled, as can the arguments.
    *arguments
        For it.

    Returns
    -------
    object
        What the function returned.

    """
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), _end_with_parent) as pool:
        return pool.submit(function, *arguments).result()


def _end_with_parent():
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def busy_processes(count):
    """
    Keep processor cores busy for a while.

    Parameters
    ----------
    count : int
        Number of processes that compute without pause.

    """
    # In sessions of their own, as the node is: Linux shares the cores among sessions first.
    processes = [subprocess.Popen([sys.executable, '-c', _BUSY_LOOP], start_new_session=True)
                 for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def interleave(candidates, rounds, calls):
    """
    Time functions in turns.

    Parameters
    ----------
    candidates : dict of str to callable
        Without arguments.
    rounds : int
        Number of turns of each, after one to warm up; every round begins with another one.
    calls : int
        Timed calls in a row a turn, after one that is not timed.

    Returns
    -------
    dict of str to np.ndarray
        Seconds, shape (rounds, calls).

    """
    times = {name: np.zeros((rounds, calls)) for name in candidates}
    for function in candidates.values():
        for _ in range(_WARM_UP_CALLS):
            function()
    names = list(candidates)
    for i in track(range(rounds), 'Measuring'):
        for name in names[i % len(names):] + names[:i % len(names)]:
            candidates[name]()
            for j in range(calls):
                started = time.perf_counter()
                candidates[name]()
                times[name][i, j] = time.perf_counter() - started
    return times


def ratio(numerator, denominator):
    """
    Return how much longer one thing takes than another, comparing within rounds.

    Parameters
    ----------
    numerator, denominator : np.ndarray
        Seconds, shape (rounds, calls).

    Returns
    -------
    float
        Median over rounds of the ratio of the medians in the round.

    """
    return float(np.median(np.median(numerator, 1) / np.median(denominator, 1)))


class Results:
    """
    The outcome of one benchmark: printed at once, written as JSON at the end.

    Parameters
    ----------
    arguments : argparse.Namespace
        From `argument_parser`.

    Raises
    ------
    SystemExit
        When threads that wait would spin; that is settled once NumPy is imported.

    """

    def __init__(self, arguments):
        missing = [f'{variable}={value}' for variable, value in THREADS.items()
                   if os.environ.get(variable) != value]
        if missing:
            raise SystemExit(f"error: start it by make, or with {' '.join(missing)}")
        self._json, self._console = arguments.json, Console()
        self._content = {'command': command_line(), 'machine': describe_machine(),
                         'load_at_start': os.getloadavg()[0], 'times_ms': {}, 'targets': {}}

    def times(self, title, times):
        """
        Show how long things took.

        Parameters
        ----------
        title : str
            What was measured, and beside what.
        times : dict of str to np.ndarray
            Seconds, any shape.

        """
        table = Table(title=title, title_justify='left')
        table.add_column('')
        for name in ('median ms', 'p95 ms', 'calls'):
            table.add_column(name, justify='right')
        rows = self._content['times_ms'].setdefault(title, {})
        for name, seconds in times.items():
            p50, p95 = np.percentile(1e3 * seconds, [50, 95]).tolist()
            rows[name] = {'p50': p50, 'p95': p95, 'calls': seconds.size}
            table.add_row(name, f'{p50:.2f}', f'{p95:.2f}', str(seconds.size))
        self._console.print(table)

    def target(self, name, value, limit, at_least=False):
        """
        Show a figure beside the one to reach.

        Parameters
        ----------
        name : str
            What it is, with its unit.
        value, limit : float
            Measured, and to reach.
        at_least : bool
            Whether larger is better.

        """
        met = value >= limit if at_least else value <= limit
        bound = f"at {'least' if at_least else 'most'} {limit:.3g}"
        self._content['targets'][name] = {'value': value, 'limit': limit, 'at_least': at_least,
                                          'met': bool(met)}
        colour = 'green' if met else 'red'
        self._console.print(f'  {name}: [bold {colour}]{value:.3g}[/] '
                            f"({bound}: {'met' if met else 'missed'})", highlight=False)

    def note(self, name, value):
        """
        Show and keep a fact.

        Parameters
        ----------
        name : str
            What it is.
        value : str
            As it is to be read.

        """
        self._content.setdefault('notes', {})[name] = value
        self._console.print(f'  {name}: {value}', highlight=False)

    def write(self):
        """Write the JSON file, where one was asked for."""
        if self._json:
            path = Path(self._json)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._content, indent=2) + '\n')
