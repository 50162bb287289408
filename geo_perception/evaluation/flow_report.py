# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The sections of a report about flow and what moves."""

import numpy as np

from geo_perception.evaluation.charts import jpeg_source
from geo_perception.evaluation.flow_samples import chosen_flow_samples
from geo_perception.evaluation.flow_summary import (
    flow_note, flow_table, motion_note, motion_table)
from geo_perception.evaluation.number_text import number_text, relative_text
from geo_perception.evaluation.report import templates
from geo_perception.inference.flow_picture import flow_picture, longest_flow, motion_picture

# A score that is white in the picture; what is said to move has more than a few.
_LARGEST_SCORE = 10.0
_UNKNOWN = 128


def flow_sections(recording, metrics):
    """
    Return the sections about flow.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_flow`.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    def pictures(sample):
        flows = sample.found.flow, sample.found.rigid, sample.flow
        longest = longest_flow(*flows)
        return (f'longest {number_text(longest)} pixels', [
            ('camera image', sample.image),
            *((name, flow_picture(flow, longest)) for name, flow in zip(
                ('predicted flow', 'flow if nothing moved', 'true flow'), flows))])

    return _sections(recording, flow_table(metrics), flow_note(metrics), pictures,
                     'Camera image, predicted flow to the image before, that of a scene that '
                     'stands still, and true flow. Colour is direction (right red, down yellow, '
                     'left cyan, up violet), strength is length, black is unknown.')


def motion_sections(recording, metrics):
    """
    Return the sections about what moves.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.
    metrics : dict
        From `geo_perception.evaluation.geometry_score.score_of_motion`.

    Returns
    -------
    list of (str, str)
        Headings and HTML.

    """
    def pictures(sample):
        score = np.clip(sample.found.score / _LARGEST_SCORE, 0, 1)
        grey = np.where(np.isfinite(score), 255 * np.nan_to_num(score), _UNKNOWN)
        return (f'{relative_text(sample.share)} of the image moves', [
            ('camera image', sample.image),
            ('what is said to move', motion_picture(sample.image, sample.found.moving)),
            ('what moves', motion_picture(sample.image, sample.moving)),
            ('score of motion', np.repeat(grey.astype(np.uint8)[..., None], 3, 2))])

    return _sections(recording, motion_table(metrics), motion_note(metrics), pictures,
                     'Camera image, what is said to move (red), what does, and the score of '
                     'motion (brighter is surer, grey is unknown).')


def _sections(recording, table, note, pictures, text):
    sections = [('Summary', templates('sections.html.j2').module.summary(*table, note))]
    samples = []
    for sample in chosen_flow_samples(recording.flow_samples):
        what, images = pictures(sample)
        samples.append({
            'what': what, 'name': f'image {sample.index}',
            'time': f'{(recording.stamps[sample.index] - recording.stamps[0]) * 1e-9:.1f} s',
            'images': [(name, jpeg_source(image)) for name, image in images]})
    if samples:
        sections.append(('Pictures', templates('geometry.html.j2').module.flow_samples(
            samples, text)))
    return sections
