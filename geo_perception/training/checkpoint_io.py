# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Writing the checkpoints of training runs."""

import io

from lightning.pytorch.plugins.io import TorchCheckpointIO
import torch

from geo_perception.atomic_files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """
    Writes checkpoints beside their place and moves them there.

    Lightning's own writes to the folder for temporary files; where that is another disk the move
    is a copy, and a process killed meanwhile leaves half a checkpoint and none before it.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        """
        Write a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            Content.
        path : str or pathlib.Path
            Destination; its folder is created.
        storage_options : None
            Not used.

        Raises
        ------
        OutputError
            When the file cannot be written (no permission, disk full).

        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(path, buffer.getbuffer())
