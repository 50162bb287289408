# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The same measurement on many recordings, some at a time, each in a process of its own."""

from concurrent.futures import as_completed, ThreadPoolExecutor
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import threading

from rich.console import Console

from geo_perception.commands.outcome import require_writable, write_outcome
from geo_perception.commands.report import write_index
from geo_perception.errors import ConfigurationError, RunError
from geo_perception.evaluation.run_folders import METRICS, read_metrics
from geo_perception.progress import track

# What keeps the libraries of a process to its share of the cores.
_THREADS = ('OMP_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM')


def one_recording(recordings, jobs):
    """
    Return the recording where it is a single one, which needs no process of its own.

    Parameters
    ----------
    recordings : str or list of str
        As the user named them.
    jobs : int
        How many at a time.

    Returns
    -------
    str or None
        None where there are several.

    Raises
    ------
    ConfigurationError
        When ``jobs`` is not at least 1.

    """
    if jobs < 1:
        raise ConfigurationError(f'--jobs is {jobs}, but must be at least 1')
    if isinstance(recordings, str):
        return recordings
    return recordings[0] if len(recordings) == 1 else None


def options_of(given):
    """
    Return the options among the arguments of a verb.

    Parameters
    ----------
    given : dict
        Its ``locals()`` before it does anything.

    Returns
    -------
    dict
        For `evaluate_many`.

    """
    return {name: value for name, value in {**given, **given.get('options', {})}.items()
            if name not in ('model', 'recordings', 'jobs', 'options')}


def evaluate_many(verb, model, recordings, jobs, options):
    """
    Evaluate a model on many recordings.

    One that fails, or whose process dies, costs no other. Each leaves its run in a folder of its
    own in that of the report, which gets an overview of all.

    Parameters
    ----------
    verb : str
        Of ``geo_perception evaluate``.
    model : str
        Model file.
    recordings : list of str
        As the user named them.
    jobs : int
        How many at a time; each takes its share of the cores unless ``threads`` says more.
    options : dict
        Options of the verb.

    Returns
    -------
    dict of str to dict
        Name of each run to its metrics.

    Raises
    ------
    ConfigurationError
        When ``output`` is given, which is the table of one recording.
    RunError
        At the end, when some could not be measured: which, and why.

    """
    options = {name: value for name, value in options.items() if value is not None}
    json, report = options.pop('json', None), options.pop('report', None)
    if 'output' in options:
        raise ConfigurationError('--output is the table of one recording; of several give '
                                 '--report, which holds a folder with a table for each')
    require_writable(json, folder=report)
    threads = options.pop('threads', 0) or max(1, len(os.sched_getaffinity(0)) // jobs)
    words = [word for name, value in options.items()
             for word in (f'--{name}', str(value).lower() if value in (True, False) else
                          str(value))] + ['--threads', str(threads)]
    names = run_names(recordings)
    metrics, failures = {}, {}
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(report or temporary)
        folders = {name: base / name for name in names}

        def arguments(name):
            kept = ['--report', str(folders[name])] if report else [
                '--json', str(folders[name] / METRICS)]
            return ['evaluate', verb, model, names[name], *words, *kept]

        for name, failure in _run_all({name: arguments(name) for name in names}, jobs, threads):
            if failure:
                failures[name] = failure
                console.print(f'{name}: {failure}', highlight=False, soft_wrap=True)
            else:
                metrics[name] = read_metrics(folders[name])
        metrics = {name: metrics[name] for name in names if name in metrics}
        write_index(console, Path(report) if report else None, f'{len(names)} recordings', metrics,
                    folders, failures)
    if json:
        write_outcome(json, {'runs': metrics, 'failures': failures})
    if failures:
        raise RunError(f'{len(failures)} of {len(names)} recordings could not be measured: '
                       + '; '.join(f'{names[name]} ({why})' for name, why in failures.items()))
    return metrics


def run_names(recordings):
    """
    Return a name for the run of each recording, good for a folder.

    Parameters
    ----------
    recordings : list of str
        As the user named them, perhaps with a slice.

    Returns
    -------
    dict of str to str
        Name to recording, in the order given.

    """
    names = {}
    for recording in recordings:
        path = Path(recording)
        base = re.sub(r'\.(mcap|db3|bag)(?=$|\[)', '', path.name) or 'recording'
        base = re.sub(r'[^\w.-]+', '_', base).strip('_.') or 'recording'
        name, count = base, 1
        if name in names and path.parent.name:
            name = base = re.sub(r'[^\w.-]+', '_', f'{path.parent.name}_{base}').strip('_.')
        while name in names:
            count += 1
            name = f'{base}_{count}'
        names[name] = recording
    return names


def _run_all(commands, jobs, threads):
    """Run programs, so many at a time; yield name and failure, empty where there is none."""
    package = str(Path(__file__).parents[2])
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), 'PYTHONPATH':
                   os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))}
    running, lock, ended = set(), threading.Lock(), threading.Event()

    def run(arguments):
        with lock:
            if ended.is_set():
                return 'not begun'
            process = subprocess.Popen(
                [sys.executable, '-m', 'geo_perception.cli', *arguments], env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors='replace')
            running.add(process)
        _, errors = process.communicate()
        with lock:
            running.discard(process)
        return _failure(process.returncode, errors)

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, arguments): name for name, arguments in commands.items()}
        try:
            for future in track(as_completed(futures), 'Measuring', total=len(futures)):
                yield futures[future], future.result()
        finally:
            ended.set()
            with lock:
                for process in running:
                    process.terminate()


def _failure(status, errors):
    """Return why a program failed, empty where it did not."""
    if status == 0:
        return ''
    if status < 0:
        return f'the process was ended by {signal.Signals(-status).name}'
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    said = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
    return (said or lines or [f'the process ended with status {status}'])[-1]
