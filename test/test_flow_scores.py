# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves of the newest images: scored, put into words, and shown."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from report_page import Page
from test_geometry_evaluation import MODEL

from geo_perception.commands.geometry_evaluation import scored_jobs
from geo_perception.datasets.frame import Frame
from geo_perception.evaluation.flow_samples import (
    chosen_flow_samples, keep_flow_sample, PARTS, SHOWN)
from geo_perception.evaluation.flow_scores import COLUMNS, FlowScores, seen_by
from geo_perception.evaluation.flow_summary import flow_verdict, motion_verdict
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.geometry_score import score_of_flow, score_of_motion
from geo_perception.evaluation.run_record import Run, with_geometry
from geo_perception.evaluation.run_report import write_run_report
from geo_perception.geometry.camera import Camera
from geo_perception.inference.flow import FlowField
from geo_perception.inference.flow_picture import longest_flow, motion_picture

CAMERA = Camera(np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]]), 64, 48)
HALF = CAMERA.resized(32, 24)
# Of all images: to the right by 8 pixels each; what moves goes down by 4 as well.
RIGHT, DOWN = 8, 4


def frame(i, moves=True, **changes):
    """Return a frame with a thing at the left, of the size of a sixteenth of the image."""
    mask = np.zeros((48, 64), np.uint8)
    flow = np.full((48, 64, 2), [RIGHT, 0], np.float32)
    if moves:
        top, left = 8 + DOWN * i, 8 + RIGHT * i
        mask[top:top + 12, left:left + 16] = 255
        flow[mask > 0] = RIGHT, DOWN
    image = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
    return Frame(i * 10**8, image, str(i), CAMERA, depth=np.where(mask, 1, 5).astype(np.float32),
                 flow=flow, motion_mask=mask, **changes)


def found_in(after, error=0.0, moving=None):
    """Return what a network says of a frame, at half the size, with an error to the right."""
    mask = seen_by(HALF, CAMERA, after.motion_mask) > 0
    rigid = np.full((24, 32, 2), [-RIGHT / 2 + error, 0], np.float32)
    flow = rigid.copy()
    flow[mask, 1] = -DOWN / 2
    moving = mask if moving is None else np.full_like(mask, moving)
    return FlowField(flow, rigid, ~mask, np.where(moving, 9, 0).astype(np.float32), moving)


def recording(n=3, moves=True, **found):
    """Return a recording of some frames, scored."""
    frames = [frame(i, moves) for i in range(n)]
    made = GeometryRecording.unanswered([f.stamp for f in frames], flow=FlowScores())
    for i in range(1, n):
        field = found_in(frames[i], **found)
        flow = made.flow.add_newest(i, field, HALF, frames[i - 1], frames[i])
        keep_flow_sample(made.flow_samples, n, i, frames[i], field, HALF, flow)
    return made


def test_the_truth_has_no_error():
    """But the scene that stands still has where something moves; all of it is found."""
    flow, motion = (score(recording()) for score in (score_of_flow, score_of_motion))
    # Enlarging blurs the rim.
    assert flow['epe_px'] < 0.25 and flow['rigid']['epe_px'] > 2 * flow['epe_px']
    assert flow['images'] == motion['images'] == flow['images_scored'] == 2
    assert motion['iou'] == motion['precision'] == motion['recall'] == 1.0
    assert motion['false_alarm_rate'] == 0.0 and motion['average_precision'] == 1.0
    assert score_of_flow(recording(error=3.0))['epe_px'] == pytest.approx(6, abs=0.2)


def test_every_image_has_its_row(tmp_path):
    """Empty where nobody knows: the first image has none before it, and in one nothing moves."""
    frames = [frame(0), frame(1), frame(2, moves=False)]
    made = GeometryRecording.unanswered([f.stamp for f in frames], flow=FlowScores())
    for i, found in ((1, found_in(frames[1], error=3.0)), (2, found_in(frames[2], moving=False))):
        made.flow.add_newest(i, found, HALF, frames[i - 1], frames[i])
    made.to_csv(tmp_path / 'frames.csv')
    first, second, third = csv.DictReader((tmp_path / 'frames.csv').read_text().splitlines())
    assert all(first[name] == '' for name in COLUMNS)
    assert float(second['flow_epe_px']) == pytest.approx(6, abs=0.2)
    assert float(second['flow_fl_percent']) == 100.0
    assert float(second['motion_iou']) == float(second['motion_recall']) == 1.0
    assert third['motion_iou'] == third['motion_recall'] == ''
    assert float(third['motion_false_alarm_rate']) == 0.0
    assert float(second['rigid_epe_px']) != float(third['rigid_epe_px'])
    # The figures of the recording are means over these.
    assert score_of_flow(made)['epe_px'] == pytest.approx(
        (float(second['flow_epe_px']) + float(third['flow_epe_px'])) / 2, rel=1e-6)
    assert 'flow_epe_px' not in GeometryRecording.unanswered([0]).table()


def test_truth_may_be_missing():
    """Of the flow, of the masks, and of both."""
    before, after = frame(0), frame(1)
    found = found_in(after)
    for flow, mask, jobs in ((None, True, ('motion',)), (True, None, ('flow',)),
                             (None, None, ())):
        scores = FlowScores()
        scores.add_newest(1, found, HALF, before if flow else replace(before, flow=None),
                          after if mask else replace(after, motion_mask=None))
        made = GeometryRecording.unanswered([0, 1], flow=scores)
        assert scored_jobs(made) == ('depth', 'odometry', *jobs)
    assert scored_jobs(GeometryRecording.unanswered([0, 1])) == ('depth', 'odometry')


def test_depth_of_another_size_is_left_alone():
    """Then nobody knows which surface is nearer, and it is not guessed."""
    before, after = frame(0), frame(1)
    small = replace(before, depth=before.depth[::2, ::2])
    with_depth, without = (FlowScores().add_newest(1, found_in(after), HALF, f, after)
                           for f in (before, small))
    assert np.isfinite(without).mean() < np.isfinite(with_depth).mean() < 1


@pytest.mark.parametrize('how, sentence', [
    ({}, '100 % is found, and 100 % of what is found does move (IoU 1.000)'),
    ({'moves': False}, 'Nothing moves by itself here, and 0.0 % of what stands still is said'),
    ({'moving': False}, 'Nothing is said to move, though something does'),
    ({'moving': True}, '100 % of what stands still is said to move')])
def test_verdict_of_what_moves(how, sentence):
    """Whatever there is to divide by."""
    assert sentence in motion_verdict(score_of_motion(recording(**how)))


def test_verdict_of_flow_does_not_flatter():
    """No better than if nothing moved is said; no truth, no number."""
    assert 'adds nothing' in flow_verdict(score_of_flow(recording(moves=False)))
    assert 'adds nothing' not in flow_verdict(score_of_flow(recording()))
    nothing = GeometryRecording.unanswered([0], flow=FlowScores())
    assert 'none of it can be compared' in flow_verdict(score_of_flow(nothing))


def test_few_pictures_are_kept():
    """A bounded number of a long recording: with most and with least of what moves."""
    samples, count = [], 300
    shares = np.random.default_rng(0).permutation(count)
    for i, share in enumerate(shares):
        mask = np.zeros((48, 64), np.uint8)
        mask.ravel()[:share] = 255
        after = replace(frame(0), motion_mask=mask)
        keep_flow_sample(samples, count, i, after, found_in(after), HALF, after.flow)
    assert len(samples) <= 2 * PARTS
    chosen = chosen_flow_samples(samples)
    kept = [s.index for s in chosen]
    assert len(chosen) == SHOWN and kept == sorted(kept)
    assert {int(np.argmax(shares)), int(np.argmin(shares))} <= set(kept)
    sample = chosen[0]
    assert sample.image.shape == (24, 32, 3) and sample.moving.shape == (24, 32)
    np.testing.assert_array_equal(np.unique(sample.flow[..., 0]), [RIGHT / 2])
    assert chosen_flow_samples(samples[:1]) == samples[:1] and chosen_flow_samples([]) == []


@pytest.mark.parametrize('how', [{}, {'moves': False}, {'moving': False}, {'n': 1}, {'n': 9}])
def test_page_shows_flow_and_what_moves(tmp_path, how):
    """Also where there is little to say."""
    made = recording(**how)
    write_run_report(tmp_path / 'r.html', with_geometry(
        Run('drives/monday'), made, MODEL, ('flow', 'motion')))
    page = Page(tmp_path / 'r.html')
    assert [name for name in page.headings if name in ('Flow', 'What moves')] == [
        'Flow', 'What moves']
    shown = len(chosen_flow_samples(made.flow_samples))
    assert shown == {1: 0, 3: 2, 9: 4}[how.get('n', 3)]
    assert len([s for s in page.sources if s.startswith('data:image/jpeg')]) == 8 * shown
    assert 'nan' not in page.text.lower().split() and 'None' not in page.text


def test_what_moves_is_red():
    """And all else as it was."""
    image = np.full((2, 2, 3), 100, np.uint8)
    picture = motion_picture(image, np.array([[255, 0], [0, 0]], np.uint8))
    assert picture[0, 0, 0] > 180 and picture[0, 0, 1] < 60
    assert (picture[0, 1] == 100).all() and picture.dtype == np.uint8
    assert longest_flow(np.full((2, 2, 2), np.nan)) == 1.0
    assert longest_flow(np.full((9, 9, 2), [3.0, 4.0])) == pytest.approx(5)
