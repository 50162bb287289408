# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The command line: one program, a verb for each job."""

import logging
import os
import signal
import sys
import threading

from geo_perception.errors import GeoPerceptionError
from geo_perception.process_environment import set_process_environment

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130


def main(args=None):
    """
    Run one verb.

    Errors that a person can mend are one sentence on standard error, without a traceback.

    Parameters
    ----------
    args : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 on success, 1 on failure, 2 on wrong usage, 130 when interrupted.

    """
    arguments = sys.argv[1:] if args is None else args
    set_process_environment()
    logging.basicConfig(format='%(levelname)s: %(message)s', level=logging.WARNING)
    logging.captureWarnings(True)
    in_main_thread = threading.current_thread() is threading.main_thread()
    # SIGTERM then undoes what is half done, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, _interrupt) if in_main_thread else None
    try:
        _run(arguments)
        sys.stdout.flush()
    except GeoPerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_FAILURE
    except BrokenPipeError:
        # The reader went away (| head); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)
    return 0


def _interrupt(number, frame):
    """Answer a signal like Ctrl-C."""
    raise KeyboardInterrupt


def _run(arguments):
    """Build the parser from the functions' signatures and docstrings, and call the chosen one."""
    if arguments[:1] == ['train'] and arguments[1:2] in (['relocalization'], ['sfmlearner'],
                                                         ['geonet'], ['monodepth']):
        # Lightning's own command line: --config, --data.*, --model.*, --trainer.*.
        from geo_perception.commands import train

        train.run(arguments[1:])
        return
    from jsonargparse import ArgumentParser, auto_cli

    from geo_perception.commands.usage import OneSentence

    class Parser(OneSentence, ArgumentParser):
        """Takes ``--flag`` for ``--flag true``, and sources and recordings as words."""

        def add_argument(self, *names, **options):
            if options.get('type') is bool:
                options.update(nargs='?', const=True)
            if names in (('sources',), ('recordings',)):
                # Several words; as a list it would be one word with brackets and commas.
                options.pop('action', None)
                options.update(type=str, nargs='+')
            return super().add_argument(*names, **options)

    from geo_perception.commands import (
        calibrate, demo, evaluate, evaluate_flow, export, import_weights, infer, info, map_place,
        prepare, replay, report, sample, train)

    auto_cli(
        {'info': info.info, 'sample': sample.sample,
         'prepare': {'_help': 'Turn recordings into other forms.', 'bag': prepare.bag,
                     'kitti-raw': prepare.kitti_raw, 'kitti-odometry': prepare.kitti_odometry,
                     'cityscapes': prepare.cityscapes, 'stereo': prepare.stereo},
         'train': train.train, 'export': export.export,
         'import': {'_help': 'Make a model file of published weights.',
                    'posenet': import_weights.posenet,
                    'sfmlearner': import_weights.sfmlearner, 'geonet': import_weights.geonet,
                    'sfmlearner-pytorch': import_weights.sfmlearner_pytorch,
                    'monodepth': import_weights.monodepth,
                    'backbone': import_weights.backbone},
         'infer': infer.infer,
         'calibrate': {'_help': 'Measure what a model cannot know by itself.',
                       'scale': calibrate.scale, 'motion': calibrate.motion,
                       'odometry': calibrate.odometry, 'place': calibrate.place},
         'evaluate': {'_help': 'Measure a model on a recording with known truth.',
                      'relocalization': evaluate.relocalization,
                      'depth': evaluate.depth, 'odometry': evaluate.odometry,
                      'flow': evaluate_flow.flow, 'motion': evaluate_flow.motion},
         'map': map_place.map_place, 'replay': replay.replay,
         'report': report.report, 'demo': demo.demo},
        args=arguments, prog='geo_perception', parser_class=Parser,
        description='Where am I, how far is everything, how am I moving, and what else is moving.')


if __name__ == '__main__':
    sys.exit(main())
