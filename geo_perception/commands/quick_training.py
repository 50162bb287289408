# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A light relocalizer in a minute or two: good enough to say where to look."""

from contextlib import redirect_stdout
import io
from pathlib import Path
import tempfile

from geo_perception.commands import train
from geo_perception.commands.export import export
from geo_perception.datasets.recording import open_recording
from geo_perception.inference.relocalizer import JOB
from geo_perception.model_file import load_model_file
from geo_perception.training.relocalization_data import SMALLEST_SPLIT

# The trunk stays as it is pretrained, and runs once over each of about a thousand views; what is
# found from a coarse pose is exact however coarse it was.
RECIPE = {'data.views': 1, 'data.novel_views.count': 1000, 'data.novel_views.position_m': 0.15,
          'data.novel_views.rotation_deg': 9.0, 'model.stretches': 2, 'trainer.max_epochs': 12,
          'trainer.check_val_every_n_epoch': 6}


def train_quickly(recording, **topics):
    """
    Train a relocalizer on a recording.

    Parameters
    ----------
    recording : str
        As the user named it.
    **topics
        Options of `RelocalizationData` for bags, None where not given.

    Returns
    -------
    ModelFile

    Raises
    ------
    GeoPerceptionError
        Whatever training has to say about the recording.

    """
    options = {'data.train': recording, **RECIPE}
    if len(open_recording(recording, **topics)) < SMALLEST_SPLIT:
        # Too few to hold some out; what verifies is calibrated on frames left out anyway.
        options['data.val'] = recording
    options.update({f'data.{name}': value for name, value in topics.items() if value is not None})
    with tempfile.TemporaryDirectory(prefix='geo_perception_') as folder:
        arguments = ['relocalization', f'--trainer.logger.save_dir={folder}']
        arguments += [f'--{name}={value}' for name, value in options.items()]
        with redirect_stdout(io.StringIO()):
            outcome = train.run(arguments)
            path = str(Path(folder) / 'quick.safetensors')
            export(outcome['checkpoint'], output=path, half=True)
        return load_model_file(path, JOB)
