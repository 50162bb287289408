# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception train``: Lightning's loop and command line over our modules."""

from typing import Literal

# What is trained where no configuration is given: the systems as published.
PUBLISHED = {('sfmlearner', 'rigid'): 'config/sfmlearner.yaml',
             ('geonet', 'rigid'): 'config/geonet_rigid.yaml',
             ('geonet', 'flow'): 'config/geonet_flow.yaml',
             ('monodepth', 'rigid'): 'config/monodepth.yaml'}


def train(system: Literal['relocalization', 'sfmlearner', 'geonet', 'monodepth']):
    """
    Train a network on recordings; "train <system> --help" lists all options of one.

    Parameters
    ----------
    system : str
        ``relocalization``: PoseNet and its successors, from images with poses; ``sfmlearner``,
        ``geonet``: depth and ego-motion, from video with intrinsics, and with ``--stage flow``
        optical flow on top of them; ``monodepth``: metric depth, from stereo pairs. Without
        ``--config`` these three are as published, and ``relocalization`` takes the defaults of
        its options, which are not those of ``config/posenet_lite.yaml``.

    """
    # The arguments of a training never come here, see `run`.
    from geo_perception.errors import ConfigurationError

    raise ConfigurationError(f'write "train {system}" first, and its options after it')


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

    Raises
    ------
    ConfigurationError
        When options do not fit together, or a disk or memory is too small.
    KeyboardInterrupt
        When interrupted; where to go on is said on standard error.

    """
    import sys

    from lightning.pytorch.utilities.exceptions import MisconfigurationException
    import torch

    from geo_perception.commands.outcome import require_writable
    from geo_perception.errors import ConfigurationError
    from geo_perception.training.checkpoint import read_checkpoint

    _quieten_lightning()
    best, last, waiting = _callbacks()
    try:
        cli = _command_line(arguments[0], arguments[1:], [best, last, waiting])
        require_writable(cli.config.json)
        if cli.config.resume is not None:
            read_checkpoint(cli.config.resume)
        if getattr(cli.config, 'recalibrate', None) is not None:
            return _recalibrate(cli)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.resume,
                        weights_only=True)
    except MisconfigurationException as error:
        raise ConfigurationError(' '.join(str(error).split())) from error
    except torch.OutOfMemoryError as error:
        raise ConfigurationError('the GPU has too little memory for this; lower '
                                 f'--data.batch_size ({error})') from error
    except OSError as error:
        raise ConfigurationError(f'training cannot go on: {error}') from error
    except SystemExit as error:
        # Lightning makes this of Ctrl-C; usage errors have code 2.
        if error.code != 1:
            raise
        kept = last.path or cli.config.resume
        print(f'go on with: --resume {kept}' if kept else
              'stopped before the first validation: nothing is kept', file=sys.stderr)
        raise KeyboardInterrupt from None
    return _report(cli.trainer, best, last, waiting, cli.config.json)


def _quieten_lightning():
    """Hide what Lightning says to its developers."""
    import logging
    import warnings

    import lightning.pytorch   # sets the levels of its loggers

    for name in ('lightning', 'lightning.pytorch', 'lightning.fabric'):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
            '.*LeafSpec',                           # Lightning's own use of PyTorch
            '.*does not have many workers',         # batches come from memory
            '.*smaller than the logging interval',  # short epochs are logged at their end
            '.*exists and is not empty',            # a resumed run goes on in its folder
            '.*sync_dist=True',                     # every process logs the same number
            '.*returned `None`',                    # a batch is skipped, and we say which
            '.*args parameter is intended'):        # they are this program's own arguments
        warnings.filterwarnings('ignore', message, module=lightning.pytorch.__name__)


def _callbacks():
    """Return what keeps the best and the last checkpoint, and measures waiting."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    from geo_perception.training.monitoring import DataWait, KeepLast

    best = ModelCheckpoint(monitor='val/error', filename='best', enable_version_counter=False,
                           save_on_train_epoch_end=False)
    return best, KeepLast(), DataWait()


def _parts(system, stage):
    """Return module and data of what is to be trained."""
    if system == 'relocalization':
        from geo_perception.training.relocalization import RelocalizationModule
        from geo_perception.training.relocalization_data import RelocalizationData

        return RelocalizationModule, RelocalizationData
    if system == 'monodepth':
        from geo_perception.training.stereo import StereoModule
        from geo_perception.training.stereo_data import StereoData

        return StereoModule, StereoData
    from geo_perception.training.view_synthesis_data import ViewSynthesisData

    if stage == 'flow':
        from geo_perception.training.flow import FlowModule

        return FlowModule, ViewSynthesisData
    from geo_perception.training.view_synthesis import ViewSynthesisModule

    return ViewSynthesisModule, ViewSynthesisData


def _command_line(system, arguments, callbacks):
    """Return Lightning's command line with trainer, model and data made from the arguments."""
    import sys

    from jsonargparse import lazy_instance
    from lightning.pytorch.loggers import TensorBoardLogger

    from geo_perception.commands.training_cli import TrainingCLI
    from geo_perception.share import share_file
    from geo_perception.training.checkpoint_io import AtomicCheckpointIO
    from geo_perception.training.monitoring import ProgressBar, ProgressLog

    stage = _stage(arguments) if system == 'geonet' else 'rigid'
    recipe = PUBLISHED.get((system, stage))
    if recipe is not None and not any(a.split('=')[0] in ('--config', '-c') for a in arguments):
        arguments = ['--config', str(share_file(recipe)), *arguments]
    cli = TrainingCLI(
        system, stage, *_parts(system, stage), run=False, args=arguments,
        seed_everything_default=False,
        parser_kwargs={'prog': f'geo_perception train {system}', 'default_env': False},
        save_config_kwargs={'overwrite': True},
        trainer_defaults={
            'max_epochs': 20, 'gradient_clip_val': 5.0, 'num_sanity_val_steps': 0,
            'enable_model_summary': False, 'enable_progress_bar': sys.stderr.isatty(),
            'log_every_n_steps': 10,
            'use_distributed_sampler': False,
            'logger': lazy_instance(
                TensorBoardLogger, save_dir='runs', name=system),
            'callbacks': [*callbacks, ProgressBar() if sys.stderr.isatty() else ProgressLog()]})
    cli.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return cli


def _recalibrate(cli):
    """Give a model file another calibration, and say which."""
    from geo_perception.commands.outcome import write_outcome
    from geo_perception.model_file import load_model_file, save_model_file

    path = cli.config.recalibrate
    model = load_model_file(path, 'relocalization')
    cli.model.recalibrate(model)
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    metadata, tensors = cli.model.calibrated(model)
    if cli.trainer.is_global_zero:
        save_model_file(path, metadata, tensors)
        for name, value in metadata.calibration.items():
            print(f'{name}: {value:.4g}')
        print(f'wrote {path}')
        write_outcome(cli.config.json, metadata.calibration)
    return metadata.calibration


def _stage(arguments):
    """Return which stage of GeoNet is asked for: it decides which options there are."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition('=')
        if name == '--stage':
            return value or (arguments[i + 1] if i + 1 < len(arguments) else '')
    return 'rigid'


def _report(trainer, best, last, waiting, json_path):
    """Say where the model is and what to do next."""
    from geo_perception.commands.outcome import write_outcome

    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = best.best_model_path or last.path
    outcome = {'checkpoint': checkpoint, 'last': last.path,
               'best_error': None if best.best_model_score is None
               else float(best.best_model_score), 'metrics': metrics,
               'steps': trainer.global_step, 'data_wait_share': waiting.share}
    if trainer.is_global_zero:
        print(f'waited for data {100 * waiting.share:.1f} % of the training time')
        print(f'best checkpoint: {checkpoint}' if best.best_model_path else
              'no validation took place, so the last checkpoint is not calibrated and may not be '
              'the best: lower --trainer.check_val_every_n_epoch')
        print(f'next: geo_perception export {checkpoint} --output model.safetensors')
        write_outcome(json_path, outcome)
    return outcome
