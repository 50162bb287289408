# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What every training without labels does alike: it survives bad batches, and says what it is."""

from dataclasses import asdict
import logging
from typing import Dict, Optional

import lightning
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.training.checkpoint import CONTENT_KEY

log = logging.getLogger(__name__)

# So many batches in a row without a finite loss end the training.
LARGEST_NOT_FINITE = 5


class GuardedModule(lightning.LightningModule):
    """
    Adam, schedule, skipped batches, pictures and the header of the checkpoint.

    Subclasses have ``metadata()``, which returns the header of the model file.

    Parameters
    ----------
    learning_rate, weight_decay : float
        Of Adam.
    schedule : str
        ``constant``, ``one_cycle``, or ``halving``: half of it after 60 % of the steps, and a
        quarter after 80 % (monodepth.md section 10).
    seed : int
        Of everything random.

    """

    # What a batch is made of, for messages.
    items = 'snippets'

    def __init__(self, learning_rate, weight_decay, schedule, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.seed = seed
        # Plain numbers again: checkpoints hold nothing that needs code to be read.
        self._learning_rate, self._weight_decay = float(learning_rate), float(weight_decay)
        self._schedule = schedule
        self._not_finite, self._skipped = 0, 0
        self._indices: Optional[torch.Tensor] = None
        self._metrics: Dict[str, float] = {}

    def seed_step(self, batch_index):
        """Let chance depend on seed, step and rank alone, so a resumed run goes on as it was."""
        torch.manual_seed(hash((self.seed, self.global_step, batch_index, self.global_rank)))

    def checked(self, terms, indices):
        """
        Return the loss of a batch, None where it is no number.

        Parameters
        ----------
        terms : dict of str to torch.Tensor
            ``total`` and its parts, which are logged.
        indices : torch.Tensor
            What is in the batch.

        Returns
        -------
        torch.Tensor or None

        """
        self._indices = indices   # fetched when they are asked for: a GPU would wait
        # Of several processes all exchange gradients or none: there the gradient tells, to all.
        finite = torch.isfinite(terms['total'].detach()) or self.trainer.world_size > 1
        if not finite:
            self._skip('loss')
        self.log('train/skipped', float(self._skipped))
        if not finite:
            return None
        for name, value in terms.items():
            self.log(f'train/{name}', value.detach(), prog_bar=name == 'total')
        return terms['total']

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None,
                                    gradient_clip_algorithm=None):
        """Clip gradients, also before a fused step, which Lightning refuses in mixed precision."""
        by_norm = gradient_clip_algorithm in (None, 'norm')
        if gradient_clip_val and by_norm and not self._scaled():
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _scaled(self):
        """Return whether gradients are scaled, as for half precision on a GPU."""
        return getattr(self.trainer.precision_plugin, 'scaler', None) is not None

    def on_before_optimizer_step(self, optimizer):
        """Make no step where a gradient is no number, though the loss is one."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if not gradients:
            return   # of a batch that was skipped
        # The scaler skips by itself, and now and then has to.
        if self._scaled() or torch.nn.utils.get_total_norm(gradients).isfinite():
            self._not_finite = 0
            return
        optimizer.zero_grad()
        self._skip('gradient')

    def _skip(self, what):
        """Count a batch that is of no use, and end the training after several."""
        self._not_finite += 1
        self._skipped += 1
        indices = self._indices.tolist()
        if self._not_finite >= LARGEST_NOT_FINITE:
            raise ConfigurationError(
                f'the {what} of {LARGEST_NOT_FINITE} batches in a row was not finite, the last '
                f'one of {self.items} {indices}; lower --model.learning_rate and go on from '
                'the last checkpoint')
        log.warning('the %s at step %d is not finite; %s %s are skipped', what,
                    self.global_step, self.items, indices)

    def on_validation_epoch_end(self):
        """Log what was collected."""
        error = self._measure()
        for name, value in self._metrics.items():
            self.log(f'val/{name}', value, prog_bar=True)
        self.log('val/error', error)

    def _measure(self):
        """Make metrics of what was collected; return what ranks checkpoints."""
        raise NotImplementedError

    def _show(self, name, picture):
        """Send a picture, uint8 BGR, to TensorBoard."""
        board = getattr(self.logger, 'experiment', None)
        if board is not None and self.trainer.is_global_zero:
            board.add_image(name, picture[..., ::-1].copy(), self.global_step,
                            dataformats='HWC')

    def configure_optimizers(self):
        """Return Adam, and a schedule where there is one."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        # One pass over the weights in place of a dozen. On a GPU it would not go with clipped
        # gradients in half precision, and matters less.
        optimizer = torch.optim.AdamW(parameters, self._learning_rate,
                                      weight_decay=self._weight_decay,
                                      fused=True if self.device.type == 'cpu' else None)
        if self._schedule == 'constant':
            return optimizer
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        if self._schedule == 'halving':
            scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: halving(step, steps))
        else:
            # Of a rise that lasts one step PyTorch divides by zero.
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self._learning_rate, total_steps=steps, pct_start=max(0.1, 2 / steps),
                cycle_momentum=False)
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def on_save_checkpoint(self, checkpoint):
        """Add all that `geo_perception export` needs: numbers, strings and tensors only."""
        header = asdict(self.metadata())
        header['preprocessing'].pop('mean_image')
        checkpoint[CONTENT_KEY] = {'metadata': header, 'tensors': {}}


def halving(step, steps):
    """
    Return the factor on the learning rate that Monodepth had (monodepth.md section 10).

    Parameters
    ----------
    step, steps : int
        Which, and how many there will be.

    Returns
    -------
    float

    """
    # In integers: 0.6 of a number is not always what it should be.
    return 1.0 if step <= 6 * steps // 10 else 0.5 if step <= 8 * steps // 10 else 0.25
