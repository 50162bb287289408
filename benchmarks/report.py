# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The report of a long run, evaluating several recordings at once, and evaluation without waiting.

A run of an hour is made up, its report is written, and a browser without a window opens it where
one is installed. Bags of the sample world are evaluated one and two at a time, in processes, and
one of them in this process beside the bare pipelines.
"""

from functools import partial
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from harness import argument_parser, ratio, Results
import numpy as np

from geo_perception.progress import track

LARGEST_MB, LONGEST_S = 25.0, 3.0


def main():
    """Measure what was asked for."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument('--parts', nargs='+', default=['page', 'evaluation', 'jobs'],
                        choices=['page', 'evaluation', 'jobs'], help='what is measured')
    parser.add_argument('--minutes', type=float, default=60.0, help='of the run that is made up')
    parser.add_argument('--bags', type=int, default=4, help='evaluated at once')
    parser.add_argument('--frames', type=int, default=150, help='of each bag')
    arguments = parser.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if 'page' in arguments.parts:
            measure_page(results, Path(folder), arguments.minutes, arguments.rounds)
        if {'evaluation', 'jobs'} & set(arguments.parts):
            from geo_perception.datasets.sample_world import write_sample_world

            write_sample_world(Path(folder) / 'world', frames_test=arguments.frames,
                               passes=('test',))
            bag = Path(folder) / 'world' / 'test'
            if 'evaluation' in arguments.parts:
                measure_evaluation(results, bag, arguments.rounds)
            if 'jobs' in arguments.parts:
                measure_jobs(results, Path(folder), bag, arguments.bags, arguments.rounds)
    results.write()


def measure_page(results, folder, minutes, rounds):
    """Write and open the report of a long run."""
    from long_run import long_run

    from geo_perception.evaluation.run_record import load_run, store_run
    from geo_perception.evaluation.run_report import write_run_report

    run = long_run(minutes)
    times = {}
    for name, action in (('store', lambda: store_run(folder / 'run.npz', run)),
                         ('read back', lambda: load_run(folder / 'run.npz')),
                         ('write the page', lambda: write_run_report(folder / 'r.html', run))):
        started = time.perf_counter()
        action()
        times[name] = np.array([time.perf_counter() - started])
    results.times(f'{len(run.stamps)} images, both pipelines', times)
    results.note('run.npz', f"{(folder / 'run.npz').stat().st_size / 1e6:.1f} MB")
    results.target('page of the run (MB)', (folder / 'r.html').stat().st_size / 1e6, LARGEST_MB)
    sys.path.insert(0, str(Path(__file__).parents[1] / 'test'))
    from browser import browser, find_browser

    if find_browser() is None:
        results.note('opening', 'no chromium on the PATH, so not measured')
        return
    opening = {'#overview': [], '#way': []}
    for _ in range(rounds):
        for fragment, seconds in opening.items():
            with browser() as tab:   # a fresh one, with nothing in its caches
                seconds.append(tab.visit(folder / 'r.html', fragment))
                assert not tab.complaints()
    results.times('navigation to the load event, in a fresh browser', {
        name: np.array(seconds) for name, seconds in opening.items()})
    results.target('opening the page (s), slower of both pages',
                   max(float(np.median(seconds)) for seconds in opening.values()), LONGEST_S)


def measure_evaluation(results, bag, rounds):
    """Compare the evaluation of a bag with the pipelines alone, the frames being there."""
    from geo_perception.datasets.recording import open_recording
    from geo_perception.evaluation.geometry_run import run_geometry
    from geo_perception.evaluation.run import evaluate_relocalizer
    from geo_perception.inference.geometry import GeometryPipeline
    from geo_perception.inference.verified import load_relocalizer
    from geo_perception.share import share_file

    relocalizer = load_relocalizer(share_file('models/sample_world.place'))
    geometry = GeometryPipeline.load(share_file('models/sample_world_geometry.safetensors'))
    # What the verbs read.
    images, with_depth = (open_recording(bag, beside=beside) for beside in ((), ('depth',)))
    frames = [images[i] for i in range(len(images))]

    def relocalize():
        for frame in frames:
            relocalizer(frame.image, frame.camera)

    def look():
        geometry.reset()
        for frame in frames:
            geometry(frame.image, frame.camera, frame.stamp)

    def evaluate_geometry():
        geometry.reset()
        run_geometry(geometry, with_depth)

    for name, alone, evaluation in (
            ('relocalization', relocalize, lambda: evaluate_relocalizer(relocalizer, images)),
            ('geometry', look, evaluate_geometry)):
        times = in_turns({'pipeline alone': alone, 'evaluation': evaluation}, rounds)
        results.times(f'{name}, {len(frames)} images', times)
        results.target(f'{name}: evaluation over pipeline alone',
                       ratio(times['evaluation'], times['pipeline alone']), 1.1)


def in_turns(candidates, rounds, warm_up=True):
    """
    Time long things in turns; once to warm up is enough for them.

    Parameters
    ----------
    candidates : dict of str to callable
        Without arguments.
    rounds : int
        Number of turns of each.
    warm_up : bool
        Whether each is called once before.

    Returns
    -------
    dict of str to np.ndarray
        Seconds, shape (rounds, 1).

    """
    if warm_up:
        for function in candidates.values():
            function()
    times = {name: np.zeros((rounds, 1)) for name in candidates}
    names = list(candidates)
    for i in track(range(rounds), 'Measuring'):
        for name in names[i % len(names):] + names[:i % len(names)]:
            started = time.perf_counter()
            candidates[name]()
            times[name][i] = time.perf_counter() - started
    return times


def measure_jobs(results, folder, bag, count, rounds):
    """Evaluate some bags one and two at a time."""
    from geo_perception.share import share_file

    bags = []
    for i in range(count):
        bags.append(folder / f'bag_{i}')
        bags[-1].symlink_to(bag)
    model = share_file('models/sample_world.place')

    def evaluate(jobs):
        subprocess.run(
            [sys.executable, '-m', 'geo_perception.cli', 'evaluate', 'relocalization', str(model),
             *map(str, bags), '--jobs', str(jobs), '--report', str(folder / f'runs_{jobs}')],
            check=True, stdout=subprocess.DEVNULL)

    times = in_turns({f'--jobs {jobs}': partial(evaluate, jobs) for jobs in (1, 2)}, rounds,
                     warm_up=False)
    results.times(f'{count} bags, processes and reports counted in', times)
    results.target('one at a time over two at a time',
                   ratio(times['--jobs 1'], times['--jobs 2']), 1.7, at_least=True)


if __name__ == '__main__':
    main()
