# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The report is one page that needs nothing else, says the numbers, and survives odd results."""

import base64
from dataclasses import replace
from types import SimpleNamespace
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from report_page import Page

from geo_perception.datasets.frame import Frame
from geo_perception.evaluation.relocalization import score
from geo_perception.evaluation.relocalization_result import RelocalizationResult
from geo_perception.evaluation.relocalization_summary import verdict
from geo_perception.evaluation.run_map import view_axes
from geo_perception.evaluation.run_record import relocalization_run
from geo_perception.evaluation.run_report import write_run_report
from geo_perception.geometry import se3
from geo_perception.inference.retrieval import Retrieval, thumbnail


class Pictures:
    """A sequence of coloured noise."""

    def __init__(self, n):
        self._images = np.random.default_rng(0).integers(0, 255, (n, 48, 64, 3), np.uint8)

    def __len__(self):
        """Return the number of frames."""
        return len(self._images)

    def __getitem__(self, index):
        """Return a frame."""
        return Frame(index, self._images[index])


MODEL = SimpleNamespace(
    path='/models/office.safetensors', sha256='0123456789abcdef' * 4,
    metadata=SimpleNamespace(
        architecture='posenet', rotation='quaternion', world_frame='map', training_camera=None,
        data={'images': 500}, metrics={'position_median_m': 0.04321}, versions={'torch': '2.13'}))


def make_result(n, **changes):
    """Return n frames on a circle, 0.1 m off each, with retrieval 0.3 m off."""
    angle = np.linspace(0, 6, n)
    T = se3.make_transform(
        se3.matrix_from_rotation_vector(np.outer(angle, [0, 0, 1])) @ se3.R_BODY_OPTICAL,
        np.stack([np.cos(angle), np.sin(angle), 1.5 + 0 * angle], 1))
    names = ['<script>alert(1)</script>.png'] * n
    result = RelocalizationResult.unanswered(np.arange(n) * 100_000_000, names, T,
                                             world_frame='map', mode='offline')
    T_estimate, T_retrieval = T.copy(), T.copy()
    T_estimate[:, 0, 3] += 0.1
    T_retrieval[:, 2, 3] += 0.3
    turn = se3.matrix_from_rotation_vector([0, 0, np.radians(2.0)])
    T_estimate[:, :3, :3] = turn @ T[:, :3, :3]
    T_retrieval[:, :3, :3] = turn @ turn @ turn @ T[:, :3, :3]
    values = {'T_estimate': T_estimate, 'T_retrieval': T_retrieval, 'T_nearest': T_retrieval,
              'covariance': np.tile(0.01 * np.eye(6), (n, 1, 1)),
              'processed': np.ones(n, bool), 'accepted': np.ones(n, bool),
              'delay_ms': np.linspace(30, 50, n)}
    return replace(result, **{**values, **changes})


def write(tmp_path, result):
    """Write a report and return its page."""
    pictures = Pictures(len(result))
    for i in range(len(result)):
        result.moments.take(i, pictures[i])
    retrieval = Retrieval([thumbnail(pictures[i].image) for i in range(len(result))],
                          result.T_nearest)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        write_run_report(tmp_path / 'out' / 'report.html', relocalization_run(
            'drives/monday[0:500]', result, pictures, retrieval, MODEL))
    return Page(tmp_path / 'out' / 'report.html')


def test_page_stands_alone_and_says_the_numbers(tmp_path):
    """No reference leaves the page; every picture is whole; text is escaped."""
    refused = np.ones(40, bool)
    refused[:3] = False
    page = write(tmp_path, make_result(40, accepted=refused))
    assert page.headings == ['Relocalization', 'Along the way', 'Timing', 'Run']
    assert page.lesser_headings == [
        'Summary', 'Trajectory', 'Errors over time', 'Distribution of errors',
        'Is the stated uncertainty right?', 'Worst frames', 'Delay of relocalization',
        'How this was measured', 'Model']
    assert '://' not in page.markup and '@import' not in page.raw
    # Of the names, which look like scripts, none became one.
    assert page.raw.count('<script') == page.raw.count('</script>') == 2
    assert 'alert(1)' in page.text
    assert all(source.startswith(('data:image/', '#')) for source in page.sources)
    assert len(page.sources) >= 14
    for source in page.sources:
        kind, _, data = source.partition(';base64,')
        if kind == 'data:image/svg+xml':
            root = ElementTree.fromstring(base64.b64decode(data))
            assert not [value for element in root.iter() for name, value in element.attrib.items()
                        if name.endswith('href') and not value.startswith(('#', 'data:'))]
    for text in ('10.0 cm', '30.0 cm', '2.00°', '6.00°', '37 of 40', '3 refused',
                 '3.0 times closer and 3.0 times better', 'office.safetensors', 'drives/monday',
                 'position median m 0.0432'):
        assert text in page.text, text


@pytest.mark.parametrize('changes', [
    {'accepted': np.zeros(5, bool)},
    {'processed': np.zeros(5, bool), 'accepted': np.zeros(5, bool),
     'T_estimate': np.full((5, 4, 4), np.nan), 'covariance': np.full((5, 6, 6), np.nan),
     'delay_ms': np.full(5, np.nan)},
    {'T_truth': np.full((5, 4, 4), np.nan), 'T_nearest': np.full((5, 4, 4), np.nan)},
    {'covariance': np.full((5, 6, 6), np.nan), 'delay_ms': np.full(5, np.nan)},
], ids=['all refused', 'all dropped', 'no truth', 'no covariance'])
def test_odd_results_have_a_report_too(tmp_path, changes):
    """What there is nothing to say about is left out; nothing fails and nothing says nan."""
    page = write(tmp_path, make_result(5, **changes))
    assert 'How this was measured' in page.lesser_headings
    assert 'nan' not in page.text.lower().split() and 'None' not in page.text


def test_single_perfect_frame(tmp_path):
    """One frame with no error at all: no axis collapses."""
    result = make_result(1)
    page = write(tmp_path, replace(result, T_estimate=result.T_truth))
    assert '1 of 1' in page.text


def test_long_recordings_stay_small(tmp_path):
    """Two minutes at 30 Hz fit well into 3 MB."""
    write(tmp_path, make_result(4000))
    assert (tmp_path / 'out' / 'report.html').stat().st_size < 3_000_000


def test_verdict_does_not_flatter():
    """Worse than retrieval is said; no answer is said."""
    result = make_result(5)
    swapped = replace(result, T_estimate=result.T_retrieval, T_retrieval=result.T_estimate)
    assert 'does not beat image retrieval (10.0 cm, 2.00°)' in verdict(score(swapped))
    refused = replace(result, accepted=np.zeros(5, bool))
    assert 'refused all 5 images' in verdict(score(refused))
    unknown = replace(result, T_truth=np.full((5, 4, 4), np.nan))
    assert 'no poses to compare' in verdict(score(unknown))


@pytest.mark.parametrize('R_world_level, expected', [
    (np.eye(3), (0, 1, 2, 1)),                                   # z up: x right, y upwards
    (se3.R_BODY_OPTICAL.T, (0, 2, 1, -1)),                       # y down: x right, z upwards
    (np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]), (2, 0, 1, 1)),   # y up: z right, x upwards
])
def test_view_from_above_is_not_mirrored(R_world_level, expected):
    """Right, upwards in the picture and towards the viewer form a right-handed system."""
    T = se3.make_transform(R_world_level @ se3.R_BODY_OPTICAL, np.zeros(3))[None]
    right, upward, height, sign = view_axes(T)
    assert (right, upward, height, sign) == expected
    axes = np.eye(3)
    assert np.cross(axes[right], axes[upward]) == pytest.approx(sign * axes[height])
