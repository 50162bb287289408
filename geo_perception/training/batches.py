# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What all data modules share: how their sets become batches."""

from lightning import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler

from geo_perception.inference.engine import resolve_device


class SeededBatches(LightningDataModule):
    """
    Batches whose order depends on seed and epoch alone, so that runs resume.

    Attributes
    ----------
    train, val : torch.utils.data.Dataset
        Set by subclasses, as is ``batch_size``.
    drops_last : bool
        Whether a last batch of training that is not full is left out, unless it is the only one.

    """

    drops_last = True

    def train_dataloader(self):
        """Return shuffled training batches."""
        return self._loader(self._sets()[0], True)

    def val_dataloader(self):
        """Return validation batches in order."""
        return self._loader(self._sets()[1], False)

    def _sets(self):
        """Return the sets of training and validation."""
        return self.train, self.val

    def _loader(self, dataset, shuffle):
        trainer = self.trainer
        sampler = DistributedSampler(dataset, trainer.world_size, trainer.global_rank, shuffle,
                                     trainer.lightning_module.seed)
        return DataLoader(dataset, self.batch_size, sampler=sampler,
                          drop_last=(self.drops_last and shuffle
                                     and len(dataset) >= self.batch_size),
                          pin_memory=resolve_device('auto').type == 'cuda')
