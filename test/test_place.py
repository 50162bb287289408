# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Place memories: made, kept in a file, asked, and what happens when something is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from textured_room import CAMERA, look_around, Recording, render
from tiny_model import write_model

from geo_perception.errors import CalibrationError, ConfigurationError, ImageError
from geo_perception.errors import ModelFileError, RecordingError
from geo_perception.evaluation.fix_calibration import calibrate_fixes
from geo_perception.evaluation.relocalization import jobs_of
from geo_perception.evaluation.relocalization_result import pose_errors
from geo_perception.evaluation.run import evaluate_relocalizer
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.fix_covariance import fit_fix_calibration
from geo_perception.inference.local_features import LARGEST_NUMBERS
from geo_perception.inference.place import Place, view_distance
from geo_perception.inference.relocalizer import Relocalization
from geo_perception.inference.verification import focal_error, Verifier
from geo_perception.inference.verified import make_relocalizer, VerifiedRelocalizer
from geo_perception.model_file import load_model_file, save_model_file
from geo_perception.training import place_calibration
from geo_perception.training.place_file import make_place_file
from geo_perception.training.place_memory import (
    choose_key_frames, clean_depth, DepthOfFrames, make_key_frames)
from geo_perception.training.repeats import find_repeats
from geo_perception.training.triangulation import triangulate_key_frames

SIGMAS = 0.1, 0.05


def tiny(folder):
    """Return a relocalizer that was never trained, in the world of the room."""
    return load_model_file(write_model(folder / 'tiny.safetensors'), 'relocalization')


class Coarse:
    """A relocalizer that knows the pose of each image but for a known error."""

    gate, retrieval, world_frame, sigmas = 0.5, None, 'room', SIGMAS
    T_map_world = np.eye(4)

    def __init__(self, model, recording, error=(0.1, 0.05, -0.05, 0.02, -0.03, 0.02)):
        self.model, self._recording, self._error = model, recording, np.array(error)

    def describe(self):
        """Return what the real one says about its engine."""
        return 'stand-in'

    def __call__(self, image, camera=None):
        """Return the pose of the frame that has just this image, moved."""
        T = np.eye(4)
        for i in range(len(self._recording)):
            if np.array_equal(self._recording[i].image, image):
                T = self._recording.poses[i].copy()
        T[:3, :3] = matrix_from_rotation_vector(self._error[3:]) @ T[:3, :3]
        T[:3, 3] += self._error[:3]
        covariance = np.diag(np.repeat(np.square(self.sigmas) / 3, 3))
        return Relocalization(T, covariance, 1.0, True, '')


class Altered:
    """Frames of a recording, their images changed."""

    def __init__(self, recording, indices, change):
        self.poses, self.stamps = recording.poses[indices], recording.stamps[indices]
        self._frames = [replace(recording[i], image=change(recording[i].image, recording.poses[i]))
                        for i in indices]

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        return self._frames[index]


def errors_of(pipeline, frames):
    """Return how far each fix is off, metres, and which images were refused, NaN."""
    fixes = [pipeline(frames[i].image) for i in range(len(frames))]
    return np.array([pose_errors(fix.T_world_camera, T)[0] if fix.accepted else np.nan
                     for fix, T in zip(fixes, frames.poses)])


@pytest.fixture(scope='module', autouse=True)
def few_trials():
    """Leave out a few frames only: half a minute for each place otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place_calibration, 'FRAMES', 14)
        patch.setattr(place_calibration, 'SEARCHES', 2)
        patch.setattr(place_calibration, 'WRONG_SEARCHES', 1)
        patch.setattr(place_calibration, 'MIRRORED_SEARCHES', 1)
        yield


@pytest.fixture(scope='module')
def recording():
    """Return a drive through a textured room, with depth."""
    return Recording(look_around(48))


@pytest.fixture(scope='module')
def place_path(recording, tmp_path_factory):
    """Return a place file of it."""
    model = tiny(tmp_path_factory.mktemp('model'))
    metadata, tensors = make_place_file(recording, Coarse(model, recording), 'room')
    path = tmp_path_factory.mktemp('place') / 'room.place'
    save_model_file(path, metadata, tensors)
    return path


@pytest.fixture
def model(place_path):
    """Return the place file, read."""
    return load_model_file(place_path, 'relocalization')


def test_verified_poses_are_exact_and_say_how_exact(model, recording):
    """Frames of another drive are found to a centimetre, far nearer than the coarse pose."""
    other = Recording(look_around(20, seed=5), seed=1)
    pipeline = VerifiedRelocalizer(Coarse(model, other), Place.from_model(model))
    result = evaluate_relocalizer(pipeline, other)
    verified, coarse = jobs_of(result)['verified'], jobs_of(result)['relocalization']
    assert coarse['position_median_m'] > 0.1
    assert verified['answered'] >= 0.9 and verified['gross_errors'] == 0
    assert verified['position_median_m'] < 0.02 and verified['orientation_median_deg'] < 0.3
    assert verified['coverage_95'] > 0.8 and 0.02 < verified['normalised_error'] < 3.0


def test_damaged_images_are_left_out_of_a_map(recording, tmp_path, monkeypatch):
    """Of key frames, of their depth, of triangulation and of trials; the map is made."""
    class Damaged(Recording):

        def __getitem__(self, index):
            if index in (0, 12, 13):
                raise ImageError(f'frame {index} is damaged')
            return recording[index]

    damaged, indices = Damaged(recording.poses), np.arange(0, 48, 6)
    for make in (make_key_frames, triangulate_key_frames):
        assert [frame.index for frame in make(damaged, indices)] == [6, 18, 24, 30, 36, 42]
    nearby = DepthOfFrames(damaged)
    assert nearby.has_depth()
    blind = replace(recording[14], depth=None)
    assert np.isfinite(nearby.at(14, blind, np.array([[160.0, 120.0]]))).all()
    metadata, _ = make_place_file(damaged, Coarse(tiny(tmp_path), recording), 'room')
    assert metadata.place['summary']['key_frames'] > 5


def test_frames_without_intrinsics_are_named(model, recording):
    """A map needs to know in which direction each pixel of its frames looks."""
    blind = [replace(recording[0], camera=None)]
    with pytest.raises(RecordingError, match='frame 0 has no intrinsics'):
        place_calibration.run_trials(Place.from_model(model), blind, np.array([0]),
                                     Coarse(model, recording))


def test_places_of_binary_features(recording, tmp_path, monkeypatch):
    """With ORB another drive is found as well, and no key frame has more points than are kept."""
    monkeypatch.setattr(place_calibration, 'FRAMES', 20)
    source, other = tiny(tmp_path), Recording(look_around(9, seed=5), seed=1)
    metadata, tensors = make_place_file(recording, Coarse(source, recording), 'room', 'orb')
    save_model_file(tmp_path / 'orb.place', metadata, tensors)
    model = load_model_file(tmp_path / 'orb.place', 'relocalization')
    place = Place.from_model(model)
    assert np.diff(place.first).max() <= LARGEST_NUMBERS['orb']
    pipeline = VerifiedRelocalizer(Coarse(model, other), place)
    errors = errors_of(pipeline, other)
    assert np.isfinite(errors).mean() > 0.6 and np.nanmax(errors) < 0.05
    assert not pipeline(render(recording.poses[3], seed=77)[0]).accepted


def test_foreign_and_plain_images_are_refused(model, recording):
    """Another room, a wall of one colour and noise are refused, and it is said why."""
    pipeline = VerifiedRelocalizer(Coarse(model, recording), Place.from_model(model))
    random = np.random.default_rng(3)
    images = [render(T, seed=77)[0] for T in look_around(8, seed=2)]
    images += [np.full((240, 320, 3), 128, np.uint8),
               random.integers(0, 256, (240, 320, 3), np.uint8)]
    for image in images:
        fix = pipeline(image)
        assert not fix.accepted and fix.coarse is not None and fix.reason
        np.testing.assert_array_equal(fix.T_world_camera, fix.coarse.T_world_camera)


@pytest.mark.parametrize('change', [
    lambda image: 255 * (image / 255.0) ** 1.7,
    lambda image: 255 * (image / 255.0) ** 0.6,
    lambda image: 1.5 * image + 10.0,
    lambda image: 0.4 * image,
    lambda image: image * (1.25, 1.0, 0.7)], ids=['dusk', 'dawn', 'bright', 'dim', 'lamp'])
def test_changed_light_is_looked_through(model, recording, change):
    """Another gamma, gain or white balance: poses stay exact."""
    lit = Altered(recording, range(2, 48, 9), lambda image, T: np.clip(
        change(image.astype(float)), 0, 255).astype(np.uint8))
    pipeline = VerifiedRelocalizer(Coarse(model, lit), Place.from_model(model))
    errors = errors_of(pipeline, lit)
    assert np.isfinite(errors).sum() >= 5 and np.nanmax(errors) < 0.03


def test_moved_furniture_does_not_move_the_pose(model, recording):
    """A third of the image shows something else, or the same elsewhere; what is left tells."""
    def moved(image, T):
        """Return an image with a part 40 pixels further right and 20 higher."""
        image = image.copy()
        image[60:180, 130:250] = image[80:200, 90:210].copy()
        return image

    def redecorated(columns):
        """Return what paints columns of the image as another room has them."""
        def change(image, T):
            image = image.copy()
            image[:, columns] = render(T, seed=77)[0][:, columns]
            return image
        return change

    for change, fewest in ((moved, 5), (redecorated(slice(0, 110)), 4),
                           (redecorated(slice(0, 300)), 0)):
        frames = Altered(recording, range(3, 48, 9), change)
        pipeline = VerifiedRelocalizer(Coarse(model, frames), Place.from_model(model))
        errors = errors_of(pipeline, frames)
        assert np.isfinite(errors).sum() >= fewest
        assert not (errors > 0.03).any()


def test_evidence_is_that_of_the_points_that_fit(model, recording):
    """Where they are in the image, and how far off the coarse pose was, in its deviations."""
    place = Place.from_model(model)
    verifier, T, camera = Verifier(place), recording.poses[10], recording[10].camera
    image = recording[10].image.copy()
    step = make_transform(np.eye(3), [0.1, 0.0, 0.0])
    turn = make_transform(matrix_from_rotation_vector([0.0, 0.2, 0.0]), np.zeros(3))
    whole = verifier(verifier.look(image, camera), T, T @ step, (0.05, 1.0)).evidence
    assert whole.spread > 0.5 and whole.disagreement == pytest.approx(2.0, abs=0.3)
    turned = verifier(verifier.look(image, camera), T, T @ turn, (1.0, 0.05)).evidence
    assert turned.disagreement == pytest.approx(4.0, abs=0.3)
    image[:, image.shape[1] // 2:] = 128
    half = verifier(verifier.look(image, camera), T, T, (1.0, 1.0)).evidence
    assert half.spread <= 0.5 and half.inliers < whole.inliers


def test_kidnapped_robot_is_found_by_what_it_sees(model, recording):
    """A coarse pose on the other side of the room does not matter."""
    lost = Coarse(model, recording, (2.0, -1.0, 0.3, 0.0, 0.0, 2.5))
    pipeline = VerifiedRelocalizer(lost, Place.from_model(model))
    fixes = [(pipeline(recording[i].image), recording.poses[i]) for i in range(0, 48, 10)]
    errors = [pose_errors(fix.T_world_camera, T)[0] for fix, T in fixes if fix.accepted]
    assert len(errors) >= 4 and max(errors) < 0.05


def test_place_that_repeats_itself(model, recording):
    """Where all looks the same a metre further on, a coarse pose that cannot tell gets no fix."""
    place = Place.from_model(model)
    assert np.mean(place.repeats < 1.5) < 0.05
    # A few key frames are enough, and soon compared with each other.
    near = np.argsort(place.view_distances(recording.poses[10]))[:8]
    place = place.without(~np.isin(np.arange(len(place.poses)), near))
    double = replace(place, poses=np.concatenate([place.poses, place.poses]),
                     depths=np.tile(place.depths, 2),
                     first=np.concatenate([place.first, place.first[1:] + place.first[-1]]),
                     points=np.concatenate([place.points, place.points + np.float32((1, 0, 0))]),
                     descriptors=np.tile(place.descriptors, (2, 1)))
    double = replace(place, repeats=find_repeats(double)[:len(place.points)])
    np.testing.assert_allclose(np.median(double.repeats), 1.0, atol=0.02)
    pipeline = VerifiedRelocalizer(Coarse(model, recording), double)
    fix = pipeline(recording[10].image)
    assert not fix.accepted and 'the place repeats itself' in fix.reason
    sure = Coarse(model, recording)
    sure.sigmas = 0.05, 0.05
    assert VerifiedRelocalizer(sure, double)(recording[10].image).accepted
    np.testing.assert_array_equal(double.without(np.arange(len(place.poses)) > 0).repeats,
                                  double.repeats[:place.first[1]])


def test_camera_of_the_image_is_used(model, recording):
    """Half the size is the same camera; another shape needs intrinsics; wrong ones are named."""
    pipeline = VerifiedRelocalizer(Coarse(model, recording), Place.from_model(model))
    image = recording[10].image
    with pytest.raises(CalibrationError, match='320x160 pixels and the map was made with'):
        pipeline(image[40:200])
    with pytest.raises(CalibrationError, match='for 640x480 pixels, the image has 320x240'):
        pipeline(image, CAMERA.resized(640, 480))
    cut = Recording(recording.poses[10:11], rows=slice(40, 200))
    fix = VerifiedRelocalizer(Coarse(model, cut), Place.from_model(model))(
        cut[0].image, cut[0].camera)
    assert fix.accepted and pose_errors(fix.T_world_camera, cut.poses[0])[0] < 0.02


def test_wrong_focal_length_is_noticed(model, recording):
    """Residuals of fixes tell one that is 5 or 10 % off, and nothing of a right one."""
    for factor, words in ((1.0, ''), (0.95, 'too small'), (1.1, 'too large')):
        pipeline = VerifiedRelocalizer(Coarse(model, recording), Place.from_model(model))
        K = CAMERA.K.copy()
        K[[0, 1], [0, 1]] *= factor
        for i in range(8, 42):
            pipeline(recording[i].image, replace(CAMERA, K=K))
        assert (words in pipeline.warning()) and bool(words) == bool(pipeline.warning())


def test_focal_error_of_exact_points():
    """It is what was done to the focal length, where points lie at different depths."""
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 2), (1, 1, 6), (200, 3))
    pixels = points[:, :2] / points[:, 2:] * 300.0
    K = np.diag([300.0 / 1.02, 300.0 / 1.02, 1.0])
    assert abs(focal_error(points, pixels, K, np.eye(4)) - 0.02) < 1e-3
    flat = points * (1, 1, 0) + (0, 0, 3)
    assert not abs(focal_error(flat[:3], pixels[:3], K, np.eye(4))) < 1e-9


def test_file_keeps_everything_and_stays_a_relocalizer(model, place_path, recording):
    """What was saved is loaded; without verifying it is the plain relocalizer."""
    place = Place.from_model(model)
    assert place.problem() == '' and len(place.points) == place.first[-1] > 500
    assert place.summary['points_from'] == 'depth' and place.summary['coverage']
    pipeline = make_relocalizer(model, threads=1, precision='fp32')
    plain = make_relocalizer(model, verify=False, threads=1, precision='fp32')
    image = recording[3].image
    assert plain(image).coarse is None
    np.testing.assert_allclose(pipeline(image).coarse.T_world_camera, plain(image).T_world_camera)
    assert 'key frames' in pipeline.describe()


@pytest.mark.parametrize('damage, words', [
    (lambda header, tensors: header.update(version=9), 'version 9'),
    (lambda header, tensors: header.pop('gate'), "incomplete .'gate'."),
    (lambda header, tensors: tensors.pop('place.points'), 'incomplete .*place.points'),
    (lambda header, tensors: tensors.update({'place.points': tensors['place.points'][:-1]}),
     'do not belong together'),
    (lambda header, tensors: tensors['place.points'].__setitem__((0, 0), np.nan), 'not finite'),
    (lambda header, tensors: tensors['place.repeats'].__setitem__(0, np.nan), 'not finite'),
    (lambda header, tensors: header.update(features='surf'), "features are 'surf'"),
    (lambda header, tensors: header['gate'].update(threshold=float('nan')), 'gate'),
    (lambda header, tensors: header['calibration'].update(floor_position=float('nan')),
     'covariance of its poses'),
    (lambda header, tensors: header['calibration'].update(power_rotation=-1.0),
     'covariance of its poses'),
    (lambda header, tensors: header['calibration'].pop('floor_position'), 'incomplete'),
    (lambda header, tensors: header.update(focal_error=[1.0]), 'errors of its focal length'),
    (lambda header, tensors: header.update(focal_error=[None, 'x']), 'errors of its focal length'),
    (lambda header, tensors: header.update(summary={}), 'summary does not say'),
    (lambda header, tensors: header['summary'].update(recordings=None), 'summary does not say'),
    (lambda header, tensors: tensors.pop('place.repeats'), 'incomplete')])
def test_damaged_place_is_refused(model, damage, words):
    """Each damage is one sentence that says how to mend it."""
    header = {**model.metadata.place, **{
        name: dict(model.metadata.place[name]) for name in ('gate', 'calibration', 'summary')}}
    tensors = {name: value.copy() for name, value in model.tensors.items()}
    damage(header, tensors)
    damaged = replace(model, metadata=replace(model.metadata, place=header), tensors=tensors)
    with pytest.raises(ModelFileError, match=words) as error:
        Place.from_model(damaged)
    assert 'geo_perception map' in str(error.value)


def test_truncated_place_file_is_refused(place_path, tmp_path):
    """Half a file is no place."""
    data = place_path.read_bytes()
    cut = tmp_path / 'cut.place'
    cut.write_bytes(data[:len(data) // 2])
    with pytest.raises(ModelFileError, match='damaged'):
        load_model_file(cut, 'relocalization')


def test_key_frames_are_added(model, recording):
    """A second drive adds what the first did not see, and the relocalizer stays."""
    place = Place.from_model(model)
    other = Recording(look_around(48, seed=9, turn=0.8))
    metadata, tensors = make_place_file(other, Coarse(model, other), 'more', extend=True)
    assert metadata.place['summary']['recordings'] == ['room', 'more']
    assert len(tensors['place.poses']) > len(place.poses)
    np.testing.assert_array_equal(tensors['place.poses'][:len(place.poses)], place.poses)
    plain = replace(model, metadata=replace(model.metadata, place={}))
    with pytest.raises(ConfigurationError, match='no place memory to add to'):
        make_place_file(other, Coarse(plain, other), 'more', extend=True)


def moved(recording, T):
    """Return the same frames with poses in another world, whose axes lie elsewhere."""
    frames = Altered(recording, np.arange(len(recording)), lambda image, _: image)
    frames.poses = T @ frames.poses
    frames._frames = [replace(frame, T_world_camera=pose)
                      for frame, pose in zip(frames._frames, frames.poses)]
    return frames


def test_poses_in_another_frame_do_not_spoil_a_place(model, recording):
    """A second SLAM session begins elsewhere: its poses neither extend nor calibrate the map."""
    other, T = Recording(look_around(40, seed=9, turn=0.8)), np.eye(4)
    coarse = Coarse(model, other)
    verified = VerifiedRelocalizer(coarse, Place.from_model(model))
    T[:3, 3] = 0.1, 0.0, 0.0
    calibrate_fixes(verified, moved(other, T))   # Drift is what a covariance is for.
    T[:3, :3], T[:3, 3] = matrix_from_rotation_vector(np.array([0, 0, 0.3])), [1.5, 0, 0]
    for spoil in (lambda frames: make_place_file(frames, coarse, 'far', extend=True),
                  lambda frames: calibrate_fixes(verified, frames)):
        with pytest.raises(RecordingError, match='not in the frame of the map: .* and 17 deg'):
            spoil(moved(other, T))


def test_a_place_that_is_not_recognised_is_told(model, recording, caplog):
    """Then nothing tells whether poses are in the frame of the map."""
    negative = Altered(recording, np.arange(0, len(recording), 4), lambda image, _: 255 - image)
    with pytest.raises(RecordingError, match='shows nothing'):
        make_place_file(negative, Coarse(model, negative), 'night', extend=True)
    assert 'recognises none of the frames' in caplog.text


def test_a_recording_of_what_is_known_adds_nothing(model, recording, caplog):
    """And it is not said that it has no features."""
    with pytest.raises(RecordingError, match='room shows nothing that the place memory does not'):
        make_place_file(recording, Coarse(model, recording), 'room', extend=True)
    assert not caplog.text


def test_recording_without_depth_is_triangulated(recording, tmp_path):
    """Points from several views lie where depth has them, and verify poses."""
    blind = Recording(recording.poses, with_depth=False)
    frames = triangulate_key_frames(blind, np.arange(0, 48, 3))
    assert len(frames) > 10
    off = []
    for frame in frames:
        local = (frame.points - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3]
        u, v = np.rint(CAMERA.project(local)).astype(int).T
        off.append(local[:, 2] / recording[frame.index].depth[v, u] - 1.0)
    assert np.median(np.abs(np.concatenate(off))) < 0.02
    model = tiny(tmp_path)
    metadata, tensors = make_place_file(blind, Coarse(model, blind), 'room')
    assert metadata.place['summary']['points_from'] == 'triangulation'


def test_too_little_parallax_is_said(tmp_path):
    """A camera that only turns cannot tell where points are."""
    poses = [make_transform(T[:3, :3], (0.0, 0.0, 0.0)) for T in look_around(40)]
    turning = Recording(np.array(poses), with_depth=False)
    model = tiny(tmp_path)
    with pytest.raises(RecordingError, match='parallax'):
        make_place_file(turning, Coarse(model, turning), 'room')


def test_choice_of_key_frames_covers_and_does_not_repeat():
    """Standing still adds none; every pose has a key frame near; the number is kept."""
    poses = np.repeat(look_around(50), 3, axis=0)
    chosen = choose_key_frames(poses, 3.0)
    assert len(chosen) <= 50
    near = np.min([view_distance(poses, poses[i], 3.0) for i in chosen], axis=0)
    assert near.max() < 0.05
    assert len(choose_key_frames(poses, 3.0, largest=7)) <= 7
    assert len(choose_key_frames(poses, 3.0, known=poses)) == 0


def test_edges_of_depth_are_not_believed():
    """What lies within two pixels of an edge is unknown, what is flat stays."""
    depth = np.full((40, 40), 2.0, np.float32)
    depth[:, 20:] = 4.0
    depth[5, 5] = np.nan
    clean = clean_depth(depth)
    assert np.isnan(clean[:, 18:22]).all()
    np.testing.assert_allclose(clean[10:30, 5:15], 2.0)


def test_empty_image_finds_nothing(model):
    """An image without features gives no pose, from no hypothesis."""
    verifier = Verifier(Place.from_model(model))
    query = verifier.look(np.zeros((240, 320, 3), np.uint8), CAMERA)
    assert verifier.recognise(query) is None
    assert verifier(query, np.eye(4), np.eye(4), SIGMAS) is None


def errors_of_a_drive(rng, degrees):
    """Return errors thrice what the solver says and more far from the map, Student's t."""
    # A step aside looks like a turn: the solver knows both only together.
    mixing = np.eye(6) + 0.8 * np.eye(6, k=-3)
    variances = np.square(rng.uniform(0.5, 2.0, (1200, 6))) * 1e-6
    raw = mixing @ (variances[..., None] * np.eye(6)) @ mixing.T
    views = rng.uniform(0.0, 0.5, 1200)
    growth = 1.0 + views / 0.25
    roots = np.linalg.cholesky(9.0 * raw + 0.004 ** 2 * np.eye(6))
    tails = np.sqrt(degrees / rng.chisquare(degrees, 1200))
    errors = (roots @ rng.normal(size=(1200, 6, 1)))[..., 0] * (growth * tails)[:, None]
    return errors, raw, views


@pytest.mark.parametrize('degrees, inside_68, inside_95', [
    (1e6, (0.64, 0.72), (0.93, 0.97)), (6.0, (0.68, 0.77), (0.90, 0.95))])
def test_truth_lies_in_the_ellipsoids(degrees, inside_68, inside_95):
    """Position and orientation together, near the map and far; long tails split the error."""
    rng = np.random.default_rng(5)
    fitted = fit_fix_calibration(*errors_of_a_drive(rng, degrees))
    errors, raw, views = errors_of_a_drive(rng, degrees)
    normalised = np.linalg.solve(fitted.covariance(raw, views), errors[..., None])[..., 0]
    squared = np.sum(errors * normalised, axis=1)
    for here in (views < 0.2, views >= 0.2):
        assert inside_68[0] - 0.02 < np.mean(squared[here] < 7.01) < inside_68[1] + 0.02
        assert inside_95[0] - 0.01 < np.mean(squared[here] < 12.59) < inside_95[1] + 0.01


def test_another_drive_says_how_far_to_trust_fixes(model, recording):
    """In the axes of the map, whatever the file said before; too few answers are refused."""
    place, other = Place.from_model(model), Recording(look_around(40, seed=5), seed=1)
    coarse = Coarse(model, other)
    fitted = calibrate_fixes(VerifiedRelocalizer(coarse, place), other)
    boastful = replace(place.calibration, scale_position=0.1, scale_rotation=0.1)
    again = VerifiedRelocalizer(coarse, replace(place, calibration=boastful))
    assert calibrate_fixes(again, other) == fitted
    believed = VerifiedRelocalizer(coarse, replace(place, calibration=fitted))
    verified = jobs_of(evaluate_relocalizer(believed, other))['verified']
    # Of forty frames.
    assert 0.5 < verified['coverage_68'] < 0.85 and 0.85 < verified['coverage_95'] <= 1.0
    few = Recording(other.poses[:20], seed=1)
    with pytest.raises(RecordingError, match='of 20 frames are answered and have a known pose; a '
                                             'calibration takes 30'):
        calibrate_fixes(VerifiedRelocalizer(coarse, place), few)
