# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception calibrate``: measure how far to trust a model."""

from typing import Optional


def calibrate(model: str, recording: str, *, output: str, json: Optional[str] = None,
              device: str = 'auto', precision: str = 'auto', threads: int = 0):
    """
    Fit when a geometry model says that something moves, on a recording it did not learn from.

    The whole pipeline runs over the recording. Training fits the same to the flow of the network
    alone; that of the pipeline is sharper, and its errors are others. Where the recording says
    what moves, 2 % of what stands still may be said to move; otherwise most of it must stand.

    Parameters
    ----------
    model : str
        Model file (.safetensors) for geometry, with a flow network.
    recording : str
        A recording with intrinsics, with an optional slice: ``drive[0:100]``.
    output : str
        Model file to write; it may be the same.
    json : str, optional
        Write the new entries to this file.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    precision : str
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    threads : int
        CPU threads of the networks; 0 leaves it to the engine.

    Returns
    -------
    dict
        The new entries of the calibration.

    """
    from dataclasses import replace

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.recording import open_images
    from geo_perception.evaluation.motion_calibration import calibrate_motion_score
    from geo_perception.evaluation.training_overlap import refuse_training_data
    from geo_perception.inference.geometry import GeometryPipeline, JOB
    from geo_perception.model_file import load_model_file, save_model_file

    loaded = load_model_file(model, JOB)
    sequence = open_images(recording, with_depth=True)
    refuse_training_data(loaded, recording, sequence)
    pipeline = GeometryPipeline(loaded, device, precision, threads)
    entries = calibrate_motion_score(pipeline, sequence).entries()
    metadata = replace(loaded.metadata, calibration={**loaded.metadata.calibration, **entries})
    save_model_file(output, metadata, loaded.tensors)
    for name, value in entries.items():
        print(f'{name}: {value:.4g}')
    print(f'wrote {output}')
    write_outcome(json, entries)
    return entries
