# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Writing the networks of a model as ONNX files, each compared with the original."""

from dataclasses import asdict, dataclass
import json
import logging
from pathlib import Path
from typing import Optional
import warnings

import torch

from geo_perception.atomic_files import write_atomically
from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.inference.onnx_parts import BATCH, onnx_parts, Part

# Largest difference to PyTorch, in parts of the spread of an output.
WRONG = 1e-3
METADATA_KEY = 'geo_perception'


@dataclass(frozen=True)
class Exported:
    """
    A file that was written.

    Attributes
    ----------
    part : Part
        What is in it.
    path : str
        Where it is.
    megabytes : float
        Its size.
    difference : float or None
        The largest one to PyTorch, over one and three images, in parts of the spread of the
        output; None where onnxruntime is missing.

    """

    part: Part
    path: str
    megabytes: float
    difference: Optional[float]


def export_onnx(model, folder):
    """
    Write every network of a model.

    Parameters
    ----------
    model : ModelFile
        For any job.
    folder : str or pathlib.Path
        Where to; it is created.

    Returns
    -------
    list of Exported

    Raises
    ------
    ConfigurationError
        When what ONNX needs is not installed.
    ModelFileError
        When the model lacks something, or a file computes something else.
    OutputError
        When a file cannot be written.

    """
    try:
        import onnxscript   # noqa: F401
    except ImportError as error:
        raise ConfigurationError('ONNX files are written by packages that are not installed: run '
                                 'pip install onnx onnxscript onnxruntime') from error
    written = []
    for part in onnx_parts(model):
        path = Path(folder) / f'{part.name}.onnx'
        program = _traced(part)
        _describe(program.model, part, model)
        data = program.model_proto.SerializeToString()
        difference = _difference(data, part)
        if difference is not None and not difference <= WRONG:
            raise ModelFileError(f'the network {part.name} computes something else in ONNX: off '
                                 f'by {difference:.2g} of its spread; nothing was written for it')
        write_atomically(path, data)
        written.append(Exported(part, str(path), len(data) / 1e6, difference))
    return written


def describe_ports(part, model):
    """
    Return what a person must know to use a part, as plain values.

    Parameters
    ----------
    part : Part
        The part.
    model : ModelFile
        What it is of.

    Returns
    -------
    dict

    """
    preprocessing = asdict(model.metadata.preprocessing)
    # These are in the graph.
    for name in ('mean', 'std', 'mean_image', 'channel_order'):
        preprocessing.pop(name)
    return {'inputs': [asdict(port) for port in part.inputs],
            'outputs': [asdict(port) for port in part.outputs], 'preprocessing': preprocessing,
            'model_sha256': model.sha256}


def _traced(part):
    """Return the graph, its batch free."""
    generator = torch.Generator().manual_seed(0)
    # Two: of one, PyTorch would take the batch for a constant.
    examples = tuple(port.example(2, generator) for port in part.inputs)
    batch = torch.export.Dim(BATCH)
    for name in ('onnxscript', 'onnx_ir', 'torch.onnx'):
        logging.getLogger(name).setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        # Constants of the preprocessing are made on first use.
        part.module(*examples)
        return torch.onnx.export(
            part.module, examples, input_names=[port.name for port in part.inputs],
            output_names=[port.name for port in part.outputs],
            dynamic_shapes=tuple({0: batch} for _ in examples), dynamo=True,
            external_data=False, verbose=False)


def _describe(graph_model, part, model):
    """Write into a graph what its ports are."""
    description = describe_ports(part, model)
    graph_model.metadata_props[METADATA_KEY] = json.dumps(description)
    graph_model.producer_name = 'geo_perception'
    for values, ports in ((graph_model.graph.inputs, part.inputs),
                          (graph_model.graph.outputs, part.outputs)):
        for value, port in zip(values, ports):
            value.doc_string = port.meaning


def _difference(data, part):
    """Return the largest difference between a graph and a part, None where it cannot be run."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for batch in (1, 3):
        examples = [port.example(batch, generator) for port in part.inputs]
        with torch.inference_mode():
            expected = part.module(*examples)
        found = session.run(None, {port.name: example.numpy()
                                   for port, example in zip(part.inputs, examples)})
        for a, b in zip(found, expected if isinstance(expected, tuple) else (expected,)):
            a = torch.from_numpy(a)
            if a.shape != b.shape:
                raise ModelFileError(f'the network {part.name} has outputs of shape '
                                     f'{tuple(a.shape)} in ONNX, expected {tuple(b.shape)}')
            largest = max(largest, float((a - b).abs().max() / b.std().clamp_min(1e-12)))
    return largest
