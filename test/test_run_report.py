# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A run on one map and through time: stored, read back, drawn, and gone through in a browser."""

import base64
from dataclasses import fields, is_dataclass, replace
import json
from pathlib import Path
import re
import sys
from xml.etree import ElementTree
import zipfile

from browser import browser, find_browser
import cv2
import numpy as np
import pytest
from report_page import Page

from geo_perception.datasets.frame import Frame
from geo_perception.errors import RunError
from geo_perception.evaluation import moments as moments_module
from geo_perception.evaluation import scrubber
from geo_perception.evaluation.charts import chart, legend_below
from geo_perception.evaluation.depth_samples import chosen_samples
from geo_perception.evaluation.flow_scores import FlowScores
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.map_chart import map_picture
from geo_perception.evaluation.moments import (
    coded_depth, decoded_depth, FARTHEST, Moments, MOVING, NEAREST, STILL, UNKNOWN)
from geo_perception.evaluation.run_map import ellipse, run_map
from geo_perception.evaluation.run_record import load_run, store_run
from geo_perception.evaluation.run_report import write_run_report
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.inference.depth import DepthEstimate

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'
needs_browser = pytest.mark.skipif(find_browser() is None,
                                   reason='no chromium is on the PATH')


@pytest.fixture(scope='module')
def run():
    """Return a made-up run of 45 frames of both pipelines."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from long_run import long_run
    finally:
        sys.path.remove(str(BENCHMARKS))
    made = long_run(0.025)
    made.relocalization.accepted[3] = False
    made.relocalization.processed[3] = True
    made.relocalization.reasons[3] = 'looks like no place in the map'
    made.relocalization.names[5] = '</script><b>5</b>'
    return made


@pytest.fixture(scope='module')
def stored(run, tmp_path_factory):
    """Return the file that it is kept in."""
    path = tmp_path_factory.mktemp('report') / 'run.npz'
    store_run(path, run)
    return path


@pytest.fixture(scope='module')
def page(stored):
    """Return its report, made of the file."""
    path = stored.parent / 'report.html'
    write_run_report(path, load_run(stored))
    return path


def same(a, b):
    """Assert that two results are equal, all the way down."""
    assert type(a) is type(b) or isinstance(a, (list, tuple))
    if is_dataclass(a):
        for field in fields(a):
            same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            same(one, other)
    else:
        assert a == b


def test_what_is_stored_is_read_back(run, stored):
    """To the last bit; of the pictures those that are shown."""
    back = load_run(stored)
    for name in ('name', 'relocalization', 'relocalizer', 'training', 'worst', 'geometry_model',
                 'jobs', 'command', 'machine'):
        same(getattr(run, name), getattr(back, name))
    same(replace(run.geometry, samples=[]), replace(back.geometry, samples=[]))
    same(*([sample for _, sample in chosen_samples(one.geometry)] for one in (run, back)))
    assert len(run.geometry.samples) > len(back.geometry.samples) > 0


def test_numbers_of_each_image_are_read_back(run, tmp_path):
    """They go by the number of the image, which stays a number."""
    flow = FlowScores(images={3: {'flow_epe_px': 0.5}, 44: {'motion_iou': 0.25}})
    store_run(tmp_path / 'run.npz', replace(run, geometry=replace(run.geometry, flow=flow)))
    back = load_run(tmp_path / 'run.npz').geometry.flow
    assert back.images == flow.images
    assert back.table(45)['flow_epe_px'][3] == 0.5 and back.table(45)['motion_iou'][44] == 0.25


def test_what_is_no_run_is_refused(run, tmp_path):
    """Damaged, foreign or hostile, in one sentence; nothing in it is run."""
    path = tmp_path / 'run.npz'
    store_run(path, replace(run, geometry=None, worst=[]))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    tree = parts['tree.json']

    def refused(data=None, **changed):
        if data is None:
            with zipfile.ZipFile(path, 'w') as archive:
                for name, content in {**parts, **changed}.items():
                    archive.writestr(name, content)
        else:
            path.write_bytes(data)
        with pytest.raises(RunError, match='run.npz'):
            load_run(path)

    refused(b'')
    refused(whole[:len(whole) // 2])
    for place in range(0, len(whole), len(whole) // 60):   # of the data, mostly
        damaged = bytearray(whole)
        damaged[place] ^= 0xff
        path.write_bytes(bytes(damaged))
        try:
            load_run(path)
        except RunError:
            pass
    for text in (b'3', b'[]', b'{}', b'{"class": "Run", "fields": {}}', tree[:-1],
                 tree.replace(b'"Moments"', b'"Popen"'), tree.replace(b'"stamps"', b'"stomps"'),
                 b'{"class": "Moment", "fields": {"index": 0, "image": {"bytes": "nothing"}}}',
                 b'[' * 50_000):
        refused(**{'tree.json': text})
    hostile = tmp_path / 'hostile.npy'
    np.save(hostile, np.array([Page], object), allow_pickle=True)
    refused(**{'array_0.npy': hostile.read_bytes()})
    with pytest.raises(RunError, match='cannot be read'):
        load_run(tmp_path / 'nowhere.npz')


def test_places_in_a_picture_are_where_things_are_drawn():
    """As the file of the picture says."""
    with chart(6.4, 3.0) as (axes, picture):
        axes.plot([3.0], [40.0], 'o', gid='thing')
        axes.set(xlim=(0, 10), ylim=(0, 50), xlabel='far')
    svg = ElementTree.fromstring(base64.b64decode(picture.src.partition('base64,')[2]))
    use = next(element for group in svg.iter() if group.get('id') == 'thing'
               for element in group.iter() if element.tag.endswith('use'))
    _, _, width, height = map(float, svg.get('viewBox').split())
    np.testing.assert_allclose(picture.places([3.0, 40.0]), [
        float(use.get('x')) / width, float(use.get('y')) / height], atol=1e-4)
    assert picture.aspect == pytest.approx(width / height)
    assert np.isnan(picture.places([[np.nan, 1.0]])).any()
    top, bottom = picture.margins
    assert 0 < top < 0.1 < bottom < 0.5


def test_legend_is_no_wider_than_the_picture():
    """Too many entries for a row take another one."""
    with chart() as (axes, _):
        for name in ('truth', 'odometry', 'network alone', 'five-point', 'constant motion', 'o'):
            axes.plot([0, 1], [0, 1], label=name)
        legend_below(axes, columns=6)
        legend, = axes.figure.legends
        assert len(legend.get_texts()) == 6
        box = legend.get_window_extent()
        assert box.width <= axes.figure.bbox.width and box.height > 25


def test_ellipse_holds_95_percent():
    """Of a normal distribution with that covariance, seen along the axes asked for."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 3))
    covariance = A @ A.T
    points = rng.multivariate_normal(np.zeros(3), covariance, 20_000)
    for axes in ((0, 1), (2, 0)):
        a, b, angle = ellipse(covariance, axes)
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        u, v = points[:, axes[0]], points[:, axes[1]]
        inside = ((c * u + s * v) / a) ** 2 + ((-s * u + c * v) / b) ** 2 <= 1
        assert inside.mean() == pytest.approx(0.95, abs=0.01) and a >= b
    assert ellipse(np.full((3, 3), np.nan), (0, 1)) is None
    assert ellipse(np.zeros((3, 3)), (0, 1)) is None


def test_odometry_begins_where_the_camera_was(run):
    """In the world of the relocalizer, which is another one than that of the truth beside it."""
    T_map_world = se3.make_transform(se3.matrix_from_rotation_vector([0.2, -0.5, 1.0]), [3, 2, 1])
    truth = run.relocalization.T_truth
    recording = replace(run.geometry, T_truth=se3.inverse_transform(T_map_world) @ truth,
                        T_odom_camera=se3.inverse_transform(truth[0]) @ truth)
    place = run_map(replace(run, geometry=recording))
    np.testing.assert_allclose(place.truth, truth[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose(place.odometry, truth[:, :3, 3], atol=1e-9)
    assert 'begins where' in place.laid
    # Without a unit one scale is fitted; without truth it lies over the fixes.
    small = recording.T_odom_camera.copy()
    small[:, :3, 3] /= 7
    unitless = replace(recording, T_odom_camera=small, metric=np.zeros(len(truth), bool))
    np.testing.assert_allclose(run_map(replace(run, geometry=unitless)).odometry,
                               truth[:, :3, 3], atol=1e-6)
    nan = np.full_like(truth, np.nan)
    blind = run_map(replace(run, geometry=replace(recording, T_truth=nan),
                            relocalization=replace(run.relocalization, T_truth=nan)))
    assert 'with the fixes' in blind.laid and np.isnan(blind.truth).all()
    answered = run.relocalization.accepted
    off = np.linalg.norm(blind.odometry - truth[:, :3, 3], axis=1)
    assert np.median(off) < 0.1 and not np.isfinite(blind.fixes[~answered]).any()


def test_map_of_hardly_anything(run):
    """One frame, nothing answered, odometry alone: drawn, or said to be empty."""
    n = len(run.stamps)
    nothing = GeometryRecording.unanswered(run.stamps)
    assert run_map(replace(run, relocalization=None, geometry=nothing)).empty
    alone = replace(nothing, T_odom_camera=run.geometry.T_odom_camera)
    place = run_map(replace(run, relocalization=None, geometry=alone))
    assert not place.empty and 'own frame' in place.laid and map_picture(place).src
    refused = replace(run.relocalization, accepted=np.zeros(n, bool))
    place = run_map(replace(run, relocalization=refused, geometry=None))
    assert place.refused.sum() == refused.processed.sum() and map_picture(place).src


def test_moments_are_few_and_small(monkeypatch):
    """However long the recording, and whatever the size of its images."""
    for frames in (1, 399, 400, 401, 108_000):
        series = Moments.of(frames)
        assert 0 < len(range(0, frames, series.stride)) <= moments_module.MOMENTS
    series = Moments.of(1000)
    for i in range(9):
        series.take(i, Frame(i, np.zeros((1080, 1920, 3), np.uint8)))
    assert [moment.index for moment in series.taken] == [0, 3, 6]
    image = cv2.imdecode(np.frombuffer(series.taken[0].image, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (180, 320, 3)
    series.fill_in([Frame(i, np.zeros((48, 64, 3), np.uint8)) for i in range(12)])
    assert [moment.index for moment in series.taken] == [0, 3, 6, 9]


def test_depth_and_mask_lie_on_the_image():
    """Also of a crop: what the network does not see is unknown."""
    camera = Camera(np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]]), 64, 48)
    crop = camera.cropped(16, 0, 32, 48)
    depth = np.full((48, 32), 5.0, np.float32)
    moving = np.zeros((48, 32), np.uint8)
    moving[:24, :8] = 255
    series = Moments.of(1)
    series.take(0, Frame(0, np.zeros((48, 64, 3), np.uint8), camera=camera),
                DepthEstimate(depth, crop, True))
    series.add_moving(0, moving, crop, camera)
    found = series.taken[0]
    assert decoded_depth(found.depth)[24, 32] == pytest.approx(5.0, rel=0.02)
    assert found.depth[24, 5] == 0 and found.depth[24, 60] == 0
    assert found.moving[10, 20] == MOVING and found.moving[40, 20] == STILL
    assert found.moving[10, 40] == STILL and found.moving[10, 5] == UNKNOWN
    depths = np.geomspace(NEAREST, FARTHEST, 500)
    np.testing.assert_allclose(decoded_depth(coded_depth(depths)), depths, rtol=0.02)
    assert np.isnan(decoded_depth(coded_depth(np.array([np.nan, np.inf, 0.0])))).all()


def moments_of(html):
    """Return what the page of a run holds for its script."""
    return json.loads(re.search(r'id="moments">(.*?)</script>', html, re.DOTALL).group(1))


def test_scrubber_has_what_was_known(run, page, monkeypatch):
    """Of each moment pictures, place and numbers; where they are too large there are fewer."""
    found = moments_of(page.read_text())
    assert [moment['index'] for moment in found] == list(range(45))
    place, chart_ = run_map(run), map_picture(run_map(run), run.training)
    a, b = place.axes
    for moment in found:
        i = moment['index']
        lines = dict(moment['lines'])
        assert {'image', 'depth', 'mask'} <= set(moment)
        assert moment['time_s'] == pytest.approx(i / 30, abs=1e-3)
        assert ('fix' in moment) == bool(run.relocalization.accepted[i])
        assert lines['Fix'].startswith(
            'dropped' if not run.relocalization.processed[i] else
            'refused' if not run.relocalization.accepted[i] else '')
        np.testing.assert_allclose(moment['truth'], chart_.places(place.truth[i, [a, b]]),
                                   atol=1e-3)
    assert 'refused' in found[3] and 'looks like no place' in dict(found[3]['lines'])['Fix']
    assert found[5]['name'] == 'script><b>5</b>'   # the last two parts of a path
    assert 'Started anew' in dict(found[0]['lines'])
    text = Page(page)
    assert '<b>5' not in text.raw and text.headings == [
        'Overview', 'Along the way', 'Relocalization', 'Depth', 'Odometry', 'Timing', 'Run']
    pictures = sum(len(moment[kind]) for moment in found for kind in ('image', 'depth', 'mask'))
    monkeypatch.setattr(scrubber, 'LARGEST', pictures // 3)
    fewer = moments_of(scrubber.scrubber_section(run))
    assert [fewer[0]['index'], fewer[-1]['index']] == [0, 44] and 10 <= len(fewer) <= 15
    assert sum(len(moment[kind]) for moment in fewer
               for kind in ('image', 'depth', 'mask')) < 1.1 * pictures / 3


@needs_browser
def test_a_person_goes_through_it(run, page):
    """By tabs, keys and a click; nothing sticks out of a narrow window, nothing complains."""
    found = moments_of(page.read_text())
    shown = '[...document.querySelectorAll(".page")].filter(p => p.offsetHeight).map(p => p.id)'
    state = ('({time: Number(document.getElementById("time").value),'
             ' camera: document.getElementById("camera-picture").src,'
             ' mask: document.getElementById("mask-picture").src,'
             ' cursor: parseFloat(document.getElementById("cursor").style.left),'
             ' at: [...document.querySelectorAll("#map .truth")].map('
             '   c => [c.cx.baseVal.value / document.getElementById("map").viewBox.baseVal.width,'
             '         c.cy.baseVal.value])[0],'
             ' marks: [...document.getElementById("map").children].map('
             '   c => c.getAttribute("class")),'
             ' lines: document.getElementById("now").innerText})')

    def check(tab, index):
        seen, moment = tab.run(state), found[index]
        assert seen['time'] == index
        assert (seen['camera'], seen['mask']) == (moment['image'], moment['mask'])
        assert seen['cursor'] == pytest.approx(100 * moment['strip'], abs=0.01)
        assert seen['at'] == pytest.approx(moment['truth'], abs=1e-4)
        assert set(seen['marks']) == {
            name for name in ('truth', 'fix', 'refused', 'odometry', 'fix_ellipse',
                              'odometry_ellipse') if name in moment}
        assert all(value in seen['lines'] for _, value in moment['lines'])

    with browser(390, 800) as tab:
        tab.visit(page)
        assert tab.run(shown) == ['overview']
        pages = tab.run('[...document.querySelectorAll(".tabs a")].map(a => a.hash.slice(1))')
        for name in pages:
            tab.run(f'document.querySelector(".tabs a[href=\\"#{name}\\"]").click()')
            tab.run('new Promise(done => setTimeout(done, 30))')
            assert tab.run(shown) == [name]
            assert tab.run('document.documentElement.scrollWidth') <= 390, name
            # No picture is empty, no panel without content.
            assert tab.run('Promise.all([...document.querySelectorAll(".page.shown img")].map('
                           'i => i.decode().then(() => i.naturalWidth > 1))).then('
                           'all => all.every(x => x))'), name
        tab.visit(page, '#way')
        check(tab, 0)
        # Also the pictures of the other pages are there soon, for printing.
        assert tab.run('new Promise(done => { const ask = () => [...document.images].filter('
                       'i => i.hasAttribute("loading") && !i.naturalWidth).length'
                       ' ? setTimeout(ask, 50) : done(true); ask(); })')
        for key, code, shift, index in (
                ('ArrowRight', 39, False, 1), ('ArrowRight', 39, True, 11),
                ('ArrowLeft', 37, False, 10), ('End', 35, False, 44),
                ('ArrowRight', 39, False, 44),
                ('Home', 36, False, 0), ('ArrowLeft', 37, False, 0),
                ('ArrowRight', 39, False, 1), ('ArrowRight', 39, False, 2),
                ('ArrowRight', 39, False, 3)):
            tab.press(key, code, shift)
            check(tab, index)
        tab.run('document.getElementById("time").value = 20;'
                'document.getElementById("time").dispatchEvent(new Event("input"))')
        check(tab, 20)
        tab.run('(() => { const strip = document.getElementById("strip");'
                ' const box = strip.getBoundingClientRect();'
                f' strip.dispatchEvent(new MouseEvent("click", {{clientX: box.left + box.width *'
                f' {found[30]["strip"]}, clientY: box.top + 5}})); }})()')
        check(tab, 30)
        tab.press(' ', 32)
        tab.run('new Promise(done => setTimeout(done, 400))')
        assert tab.run('document.getElementById("play").innerText') == 'Pause'
        assert tab.run('Number(document.getElementById("time").value)') > 30
        tab.run('location.hash = "#depth"')
        tab.run('new Promise(done => setTimeout(done, 50))')
        assert tab.run(shown) == ['depth']
        still = tab.run('Number(document.getElementById("time").value)')
        tab.press('ArrowRight', 39)
        assert tab.run('Number(document.getElementById("time").value)') == still
        assert tab.complaints() == []
