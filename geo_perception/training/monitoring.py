# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a training run tells about itself."""

import os
import sys
import time

import lightning
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar


class DataWait(lightning.Callback):
    """
    Measure the share of training time spent waiting for the next batch.

    Attributes
    ----------
    share : float
        Between 0 and 1, over all training steps so far.

    """

    def __init__(self):
        self._waited, self._worked = 0.0, 0.0
        self._mark = None

    @property
    def share(self):
        """Waiting time over waiting and working time."""
        total = self._waited + self._worked
        return self._waited / total if total else 0.0

    def on_train_epoch_start(self, trainer, module):
        """Begin to wait for the first batch."""
        self._mark = time.perf_counter()

    def on_validation_start(self, trainer, module):
        """Stop the watch: validation within an epoch is neither waiting nor training."""
        self._mark = None

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        """Stop waiting, begin to work."""
        now = time.perf_counter()
        self._waited += 0.0 if self._mark is None else now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        """Stop working, begin to wait."""
        now = time.perf_counter()
        self._worked += now - self._mark
        self._mark = now

    def on_train_epoch_end(self, trainer, module):
        """Log the share."""
        module.log('train/data_wait_share', self.share)


class KeepLast(Checkpoint):
    """
    Write ``last.ckpt`` after every validation and at the end.

    Lightning's own last checkpoint is written only when it is the best one.

    Attributes
    ----------
    path : str
        The file; empty before the first was written.

    """

    def __init__(self):
        self.path = ''
        self._step = None

    def on_validation_end(self, trainer, module):
        """Write it."""
        if trainer.global_step != self._step and not trainer.fast_dev_run:
            self.path = os.path.join(trainer.checkpoint_callback.dirpath, 'last.ckpt')
            trainer.save_checkpoint(self.path)
            self._step = trainer.global_step

    def on_train_end(self, trainer, module):
        """Write what was learned since the last validation."""
        self.on_validation_end(trainer, module)


class ProgressBar(RichProgressBar):
    """Lightning's bar on standard error, so that standard output stays for results."""

    def __init__(self):
        super().__init__(console_kwargs={'stderr': True})

    def get_metrics(self, trainer, module):
        """Return the metrics to show, under their units, for they share one line."""
        return {name.rpartition('/')[2].rpartition('_')[2]: value
                for name, value in trainer.progress_bar_metrics.items()}


class ProgressLog(lightning.Callback):
    """What stands in for the bar in a log file: a line on standard error a validation."""

    def on_train_start(self, trainer, module):
        """Say what comes: the first line may take minutes."""
        if trainer.is_global_zero:
            print(f'step {trainer.global_step} of {trainer.estimated_stepping_batches}, '
                  f'{trainer.num_training_batches} batches an epoch; a line follows each '
                  'validation', file=sys.stderr, flush=True)

    def on_validation_end(self, trainer, module):
        """Print the line."""
        if trainer.is_global_zero:
            metrics = ', '.join(f'{name} {value:.4g}'
                                for name, value in trainer.progress_bar_metrics.items())
            print(f'epoch {trainer.current_epoch + 1}, step {trainer.global_step}: {metrics}',
                  file=sys.stderr, flush=True)
