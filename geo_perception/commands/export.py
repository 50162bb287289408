# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception export``: turn a training checkpoint into a model file."""

from typing import Optional


def export(checkpoint: str, *, output: str, half: bool = False, align_gravity: bool = False,
           json: Optional[str] = None):
    """
    Write the model file that nodes and all other verbs run.

    Parameters
    ----------
    checkpoint : str
        Checkpoint of a training run (.ckpt).
    output : str
        Model file to write (.safetensors).
    half : bool
        Store the weights with 16 bits: half the size, computed in 32 bits all the same.
    align_gravity : bool
        Turn the world so that z points up, where the labels have another axis up (7-Scenes,
        some of Cambridge); the direction is estimated from the training poses.
    json : str, optional
        Write a summary to this file.

    Returns
    -------
    dict
        ``output`` and its size in megabytes.

    """
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.pose_checks import estimate_gravity
    from geo_perception.errors import PoseError
    from geo_perception.geometry.se3 import make_transform, rotation_between
    from geo_perception.model_file import metadata_from_dict, save_model_file
    from geo_perception.networks.relocalization import ARCHITECTURES
    from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

    content = read_checkpoint(checkpoint)
    ours = content[CONTENT_KEY]
    extra = {name: value.numpy() for name, value in ours['tensors'].items()}
    mean_image = extra.pop('preprocessing.mean_image', None)
    metadata = metadata_from_dict(ours['metadata'], mean_image, checkpoint)
    if align_gravity:
        gravity = estimate_gravity(extra['retrieval.poses'])
        if gravity is None:
            raise PoseError('the training cameras do not stand upright, so gravity cannot be '
                            'estimated from their poses; export without --align_gravity')
        R = rotation_between(gravity, np.array([0.0, 0.0, -1.0]))
        metadata = replace(metadata, T_map_world=make_transform(R, np.zeros(3)).tolist())
    unused = ARCHITECTURES[metadata.architecture].training_only
    tensors = {}
    for name, value in content['state_dict'].items():
        scope, _, layer = name.partition('.')
        if scope == 'network' and not layer.startswith(unused):
            # Small tensors cost nothing, and positions of the scene need their digits.
            store_half = half and value.numel() >= 4096
            tensors[name] = value.numpy().astype(np.float16 if store_half else np.float32)
    save_model_file(output, metadata, {**tensors, **extra})
    megabytes = Path(output).stat().st_size / 1e6
    print(f'wrote {output} ({megabytes:.1f} MB)')
    summary = {'output': output, 'megabytes': megabytes}
    write_outcome(json, summary)
    return summary
