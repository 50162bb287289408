# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception export``: turn a training checkpoint into a model file, or into ONNX."""

from typing import Optional


def export(checkpoint: str, *, output: str, half: bool = False, align_gravity: bool = False,
           onnx: bool = False, json: Optional[str] = None):
    """
    Write the model file that nodes and all other verbs run, or ONNX files for other programs.

    Parameters
    ----------
    checkpoint : str
        Checkpoint of a training run (.ckpt); with --onnx a model file (.safetensors), too.
    output : str
        Model file to write (.safetensors); with --onnx a folder.
    half : bool
        Store the weights with 16 bits: half the size, computed in 32 bits all the same.
    align_gravity : bool
        For relocalization: turn the world so that z points up, where the labels have another
        axis up (7-Scenes, some of Cambridge); the direction is estimated from the training poses.
    onnx : bool
        Write each network as an ONNX file instead, and what goes in and comes out as ports.json;
        each is compared with the original where onnxruntime is installed.
    json : str, optional
        Write a summary to this file.

    Returns
    -------
    dict
        ``output`` and its size in megabytes; with --onnx ``networks``: of each the file, its size,
        its inputs and outputs and the largest difference in parts of an output's spread.

    """
    from pathlib import Path

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.errors import ConfigurationError
    from geo_perception.model_file import (
        is_model_file, load_model_file, ModelFile, save_model_file)

    if onnx:
        if half:
            raise ConfigurationError('ONNX files hold 32 bits; leave --half out')
        if is_model_file(checkpoint) and not align_gravity:
            model = load_model_file(checkpoint)
        else:
            metadata, tensors = _from_checkpoint(checkpoint, False, align_gravity)
            model = ModelFile(metadata, tensors, '', checkpoint)
        return _write_onnx(model, output, json)
    if is_model_file(checkpoint):
        raise ConfigurationError(f'{checkpoint} is a model file already; what is exported is a '
                                 'checkpoint of training (.ckpt), or with --onnx a model file')
    metadata, tensors = _from_checkpoint(checkpoint, half, align_gravity)
    save_model_file(output, metadata, tensors)
    megabytes = Path(output).stat().st_size / 1e6
    print(f'wrote {output} ({megabytes:.1f} MB)')
    summary = {'output': output, 'megabytes': megabytes}
    write_outcome(json, summary)
    return summary


def _from_checkpoint(checkpoint, half, align_gravity):
    """Return header and tensors of the model in a checkpoint."""
    import numpy as np

    from geo_perception.errors import ConfigurationError
    from geo_perception.model_file import metadata_from_dict
    from geo_perception.training.checkpoint import CONTENT_KEY, read_checkpoint

    content = read_checkpoint(checkpoint)
    ours = content[CONTENT_KEY]
    tensors = {name: value.numpy() for name, value in ours['tensors'].items()}
    mean_image = tensors.pop('preprocessing.mean_image', None)
    metadata = metadata_from_dict(ours['metadata'], mean_image, checkpoint)
    if align_gravity and metadata.job != 'relocalization':
        raise ConfigurationError(f'{checkpoint} is for {metadata.job}, whose results are relative '
                                 'to the camera: there is no world to be turned; export without '
                                 '--align_gravity')
    if align_gravity:
        metadata = _upright(metadata, tensors['retrieval.poses'])
    split = {'geometry': _geometry_weights, 'stereo_depth': _stereo_weights}
    metadata, weights = split.get(metadata.job, _relocalization_weights)(
        metadata, content['state_dict'])
    for name, value in weights.items():
        # Small tensors cost nothing, and positions of the scene need their digits.
        store_half = half and value.numel() >= 4096
        tensors[name] = value.numpy().astype(np.float16 if store_half else np.float32)
    return metadata, tensors


def _write_onnx(model, folder, json_path):
    """Write ONNX files, say what is in them, and write that down."""
    import json
    from pathlib import Path

    from geo_perception.atomic_files import write_atomically
    from geo_perception.commands.outcome import write_outcome
    from geo_perception.inference.onnx_export import describe_ports, export_onnx

    written = export_onnx(model, folder)
    networks = {}
    for one in written:
        agrees = ('not compared with the original: onnxruntime is not installed'
                  if one.difference is None else
                  f'agrees with the original within {one.difference:.1e} of the spread')
        print(f'wrote {one.path} ({one.megabytes:.1f} MB); {agrees}')
        for kind, ports in (('in ', one.part.inputs), ('out', one.part.outputs)):
            for port in ports:
                shape = ' x '.join(map(str, port.shape))
                print(f'  {kind} {port.name}: {port.dtype}, {shape}. {port.meaning}')
        networks[one.part.name] = {'path': one.path, 'megabytes': one.megabytes,
                                   'difference': one.difference,
                                   **describe_ports(one.part, model)}
    if model.metadata.arguments.get('egomotion_name') == 'direct':
        print('motion is found by aligning images, not by a network: there is no file for it')
    write_atomically(Path(folder) / 'ports.json',
                     json.dumps({name: {key: network[key] for key in (
                         'inputs', 'outputs', 'preprocessing')}
                         for name, network in networks.items()}, indent=2).encode() + b'\n')
    summary = {'output': folder, 'networks': networks}
    write_outcome(json_path, summary)
    return summary


def _upright(metadata, poses):
    """Return the header with the world turned so that z points up."""
    from dataclasses import replace

    import numpy as np

    from geo_perception.datasets.pose_checks import estimate_gravity
    from geo_perception.errors import PoseError
    from geo_perception.geometry.se3 import make_transform, rotation_between

    gravity = estimate_gravity(poses)
    if gravity is None:
        raise PoseError('the training cameras do not stand upright, so gravity cannot be '
                        'estimated from their poses; export without --align_gravity')
    R = rotation_between(gravity, np.array([0.0, 0.0, -1.0]))
    return replace(metadata, T_map_world=make_transform(R, np.zeros(3)).tolist())


def _relocalization_weights(metadata, state):
    """Return the header and the weights that inference needs, by their names in the file."""
    from geo_perception.networks.relocalization import ARCHITECTURES

    parts = ARCHITECTURES[metadata.architecture].training_only
    unused = tuple(f'network.{part}' for part in parts)
    return metadata, {name: value for name, value in state.items()
                      if name.startswith('network.') and not name.startswith(unused)}


def _stereo_weights(metadata, state):
    """Return the same for depth from stereo pairs, all of it."""
    return metadata, {name: value for name, value in state.items()
                      if name.startswith('network.')}


def _geometry_weights(metadata, state):
    """Return the same for depth, ego-motion and flow; no mask decoder is in the file."""
    from dataclasses import replace

    from geo_perception.networks.egomotion import EgoMotionNet

    unused = tuple(f'egomotion.{part}' for part in EgoMotionNet.training_only)
    arguments = {**metadata.arguments, 'egomotion': {
        name: value for name, value in metadata.arguments['egomotion'].items()
        if name != 'explainability'}}
    return (replace(metadata, arguments=arguments),
            {f'network.{name}': value for name, value in state.items()
             if name.startswith(('depth.', 'egomotion.', 'flow.'))
             and not name.startswith(unused)})
