# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Lightning's command line, with what it does not know of."""

from pathlib import Path
from typing import Literal

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from geo_perception.commands.usage import OneSentence


class Parser(OneSentence, LightningArgumentParser):
    """Keeps its help for those who ask."""


class TrainingCLI(LightningCLI):
    """
    Trainer, model and data made from arguments.

    Parameters
    ----------
    system : str
        What is trained, see `geo_perception.commands.train.train`.
    stage : str
        ``rigid`` or ``flow``.
    *arguments, **options
        As for Lightning's.

    """

    def __init__(self, system, stage, *arguments, **options):
        self._system, self._stage = system, stage
        super().__init__(*arguments, parser_class=Parser, **options)

    def add_arguments_to_parser(self, parser):
        """Add options that belong to no class."""
        parser.add_argument('--json', default=None, type=str,
                            help='Write the outcome to this file.')
        parser.add_argument('--resume', default=None, type=str,
                            help='Checkpoint to go on from (last.ckpt).')
        if self._system == 'relocalization':
            parser.add_argument('--recalibrate', default=None, type=str,
                                help='Model file (.safetensors) whose covariance to calibrate '
                                'again, in place, instead of training: its weights stay.')
        if self._system == 'geonet':
            parser.add_argument('--stage', default=self._stage, type=Literal['rigid', 'flow'],
                                help='What to train: depth and ego-motion (rigid), or optical '
                                     'flow on top of them (flow).')
        parser.add_argument('--init', default='', type=str, help=(
            'Checkpoint or model file with depth and ego-motion.' if self._stage == 'flow' else
            'Checkpoint, model file or imported backbone whose weights to begin with; for '
            'depth and ego-motion also one of "train monodepth".'))
        if self._stage == 'flow':
            parser.link_arguments('init', 'model.init')

    def before_instantiate_classes(self):
        """Say where weights come from and logs go."""
        if self._stage != 'flow' and self.config.init:
            self.config.model.start_from = self.config.init
        if self._stage == 'flow' and not self.config.init and self.config.resume:
            # A checkpoint of flow holds depth and ego-motion, too.
            self.config.model.init = self.config.resume
        logger = getattr(self.config.trainer.logger, 'init_args', {})
        if 'save_dir' in logger:
            logger.save_dir = str(Path(logger.save_dir).absolute())
        if self.config.resume is not None and 'version' in logger:
            # An absolute version is taken as it is: the curve goes on in the same folder.
            folder = Path(self.config.resume).absolute().parent
            if folder.name == 'checkpoints':
                logger.version = str(folder.parent)
