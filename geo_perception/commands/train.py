# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception train``: Lightning's loop and command line over our modules."""

from typing import Literal


def train(system: Literal['relocalization']):
    """
    Train a network on recordings; "train relocalization --help" lists all options.

    Parameters
    ----------
    system : str
        ``relocalization``: PoseNet and its successors, from images with poses.

    """
    # Only reached through the help: `run` takes the arguments before this parser sees them.


def run(arguments):
    """
    Train what the first argument names, with Lightning's options after it.

    Parameters
    ----------
    arguments : list of str
        ``['relocalization', '--config', 'posenet.yaml', '--data.train', 'drive', ...]``.

    Returns
    -------
    dict
        ``checkpoint`` (the best one), validation metrics and the share of time that training
        waited for data.

    """
    from jsonargparse import lazy_instance
    from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.loggers import TensorBoardLogger

    from geo_perception.training.monitoring import DataWait
    from geo_perception.training.relocalization import RelocalizationModule
    from geo_perception.training.relocalization_data import RelocalizationData

    class TrainingCLI(LightningCLI):
        """Adds our own two options."""

        def add_arguments_to_parser(self, parser):
            parser.add_argument('--json', default=None, type=str,
                                help='Write the outcome to this file.')
            parser.add_argument('--resume', default=None, type=str,
                                help='Checkpoint to go on from (last.ckpt).')

    checkpoints = ModelCheckpoint(monitor='val/error', save_last=True, filename='best',
                                  enable_version_counter=False)
    waiting = DataWait()
    cli = TrainingCLI(
        RelocalizationModule, RelocalizationData, run=False, args=arguments[1:],
        seed_everything_default=False,
        parser_kwargs={'prog': 'geo_perception train relocalization', 'default_env': False},
        save_config_kwargs={'overwrite': True},
        trainer_defaults={
            'max_epochs': 20, 'gradient_clip_val': 5.0, 'num_sanity_val_steps': 0,
            'enable_model_summary': False, 'log_every_n_steps': 10,
            'use_distributed_sampler': False,
            'logger': lazy_instance(
                TensorBoardLogger, save_dir='runs', name='relocalization'),
            'callbacks': [checkpoints, waiting, RichProgressBar(leave=False)]})
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.resume)
    if cli.trainer.interrupted:
        raise KeyboardInterrupt
    return _report(cli.trainer, checkpoints, waiting, cli.config.json)


def _report(trainer, checkpoints, waiting, json_path):
    """Say where the model is and what to do next."""
    import json

    from geo_perception.model_file import write_atomically

    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    outcome = {'checkpoint': checkpoints.best_model_path, 'last': checkpoints.last_model_path,
               'best_error': None if checkpoints.best_model_score is None
               else float(checkpoints.best_model_score), 'metrics': metrics,
               'steps': trainer.global_step, 'data_wait_share': waiting.share}
    if trainer.is_global_zero:
        print(f'waited for data {100 * waiting.share:.1f} % of the training time')
        print(f'best checkpoint: {checkpoints.best_model_path}')
        print(f'next: geo_perception export {checkpoints.best_model_path} '
              '--output model.safetensors')
        if json_path is not None:
            write_atomically(json_path, json.dumps(outcome, indent=2).encode())
    return outcome
