# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pose losses: the published identities, the learned weights, reprojection against a loop."""

import math

import numpy as np
import pytest
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.geometry import se3
from geo_perception.losses.pose import euclidean_norm, KINDS, PoseLoss, reprojection_error
from geo_perception.networks.rotation import decode_rotation, encode_rotation, WIDTHS

IDENTITY = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
LABEL = torch.tensor([[5.0, 0, 0], [0, 5.0, 0]])


def problem(n=4, rotation='quaternion', seed=0):
    """Return predictions of one head, labels and points, all of them different."""
    g = torch.Generator().manual_seed(seed)
    q = torch.from_numpy(se3.canonical_quaternion(
        torch.randn(n, 4, generator=g, dtype=torch.float64).numpy()))
    q = (q / q.norm(dim=1, keepdim=True)).float()
    position = torch.randn(n, 3, generator=g)
    target = encode_rotation(q, rotation)
    head = (position + 0.1 * torch.randn(n, 3, generator=g),
            target + 0.1 * torch.randn(n, WIDTHS[rotation], generator=g))
    points = torch.randn(n, 30, 3, generator=g) * 5
    return head, position, target, points


def test_identities_of_the_specification():
    """Section 5.4: errors of (1, 0, 0) and (0, 2, 0), rotations right."""
    head = (LABEL + torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]), IDENTITY)
    assert PoseLoss('caffe')([head], LABEL, IDENTITY).item() == pytest.approx(1.25)
    assert PoseLoss('weighted')([head], LABEL, IDENTITY).item() == pytest.approx(1.5, abs=1e-3)
    # Learned: L1 norms, mean 1.5, s = 0; the rotation term is its weight alone.
    assert PoseLoss('learned')([head], LABEL, IDENTITY).item() == pytest.approx(1.5 - 3.0)


def test_caffe_loss_of_rotations_is_squared_halved_and_not_normalised():
    """A quaternion twice too long is an error there, and none for the others."""
    head = (LABEL, 2 * IDENTITY)
    assert PoseLoss('caffe', beta=500.0)([head], LABEL, IDENTITY).item() == pytest.approx(250.0)
    assert PoseLoss('weighted', beta=500.0)([head], LABEL, IDENTITY).item() \
        == pytest.approx(0.0, abs=1e-2)


def test_weighted_loss_is_the_paper_equation_for_one_frame():
    """Norms, not squares; the prediction is divided by its norm."""
    head, position, target, _ = problem(1)
    x, q = (t.double().numpy()[0] for t in head)
    expected = (np.linalg.norm(x - position.numpy()[0])
                + 7.0 * np.linalg.norm(q / np.linalg.norm(q) - target.numpy()[0]))
    assert PoseLoss('weighted', beta=7.0)([head], position, target).item() \
        == pytest.approx(expected, rel=1e-5)


def test_learned_weights_have_their_minimum_at_the_logarithm_of_the_loss():
    """There each term is 1 + ln L, which may be negative."""
    head, position, target, _ = problem()
    loss = PoseLoss('learned')
    assert loss.log_variance.tolist() == [0.0, -3.0]
    errors = [(head[0] - position).abs().sum(1).mean(),
              (torch.nn.functional.normalize(head[1], dim=1) - target).abs().sum(1).mean()]
    best = [math.log(e.item()) for e in errors]
    with torch.no_grad():
        loss.log_variance.copy_(torch.tensor(best))
    value = loss([head], position, target)
    assert value.item() == pytest.approx(sum(1 + s for s in best), rel=1e-5)
    value.backward()
    assert loss.log_variance.grad.abs().max() < 1e-5
    for shift in (-0.1, 0.1):
        with torch.no_grad():
            loss.log_variance.copy_(torch.tensor(best) + shift)
        assert loss([head], position, target) > value


def test_only_the_learned_loss_learns_weights():
    """Otherwise an optimiser would move numbers that do nothing."""
    assert [PoseLoss(kind).log_variance.requires_grad for kind in KINDS] == [
        kind == 'learned' for kind in KINDS]


@pytest.mark.parametrize('rotation', WIDTHS)
@pytest.mark.parametrize('kind', KINDS)
def test_loss_does_not_depend_on_the_size_of_the_batch(kind, rotation):
    """The same batch twice gives the same number, which is lower nearer to the truth."""
    head, position, target, points = problem(rotation=rotation)
    loss = PoseLoss(kind, rotation=rotation)
    once = loss([head], position, target, points)
    twice = loss([tuple(torch.cat([t, t]) for t in head)], torch.cat([position] * 2),
                 torch.cat([target] * 2), torch.cat([points] * 2))
    torch.testing.assert_close(once, twice)
    nearer = tuple(0.5 * (a + b) for a, b in zip(head, (position, target)))
    assert loss([nearer], position, target, points) < once


@pytest.mark.parametrize('rotation', WIDTHS)
@pytest.mark.parametrize('kind', KINDS)
def test_gradient_is_finite_at_zero_residual(kind, rotation):
    """Where the gradient of a norm is not defined."""
    _, position, target, points = problem(rotation=rotation)
    x, q = position.clone().requires_grad_(True), target.clone().requires_grad_(True)
    PoseLoss(kind, rotation=rotation)([(x, q)], position, target, points).backward()
    assert x.grad.isfinite().all() and q.grad.isfinite().all()


def test_heads_are_weighted_as_published():
    """0.3, 0.3 and 1 on the whole loss of a head."""
    heads = [problem(seed=seed)[0] for seed in range(3)]
    _, position, target, _ = problem()
    single = PoseLoss('weighted')
    expected = sum(w * single([head], position, target)
                   for w, head in zip((0.3, 0.3, 1.0), heads))
    together = PoseLoss('weighted', head_weights=(0.3, 0.3, 1.0))(heads, position, target)
    torch.testing.assert_close(together, expected)


def test_sign_invariant_loss():
    """The nearer of q and -q counts; without the option it is a different rotation."""
    head, position, target, _ = problem()
    flipped = (head[0], -head[1])
    for kind in ('learned', 'weighted'):
        loss = PoseLoss(kind, sign_invariant=True)
        torch.testing.assert_close(loss([head], position, target),
                                   loss([flipped], position, target))
        torch.testing.assert_close(loss([head], position, target),
                                   PoseLoss(kind)([head], position, target))
        assert PoseLoss(kind)([flipped], position, target) > 1.5 * loss([head], position, target)


def test_euclidean_norm():
    """Of rows; its gradient at zero is zero."""
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    norm = euclidean_norm(x)
    assert norm.tolist() == pytest.approx([5.0, 0.0], abs=1e-5)
    norm.sum().backward()
    assert x.grad.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def reference_reprojection(position, R, points, position_label, R_label):
    """Return the mean error of one image, point by point."""
    errors = []
    for g in points:
        seen, true = R.T @ (g - position), R_label.T @ (g - position_label)
        if not np.isfinite(g).all() or seen[2] <= 0.1 or true[2] <= 0.1:
            continue
        error = np.abs(seen[:2] / seen[2] - true[:2] / true[2]).sum()
        errors.append(min(error, 10.0))
    return np.mean(errors) if errors else 0.0


def test_reprojection_is_a_loop_over_points():
    """With points behind, too near, unknown and far off in the image."""
    head, position, target, points = problem(n=5)
    points[0, 3] = np.nan
    R, R_label = decode_rotation(head[1], 'quaternion'), decode_rotation(target, 'quaternion')
    # One that grazes the camera, and an image that sees nothing.
    points[1, 0] = position[1] + R_label[1] @ torch.tensor([1.0, 0.0, 0.11])
    points[4] = position[4] - R_label[4, :, 2] * torch.linspace(1, 9, 30)[:, None]
    found = reprojection_error(head[0], R, points, position, R_label)
    expected = [reference_reprojection(*(t[i].double().numpy() for t in (
        head[0], R, points, position, R_label))) for i in range(5)]
    assert expected[4] == 0.0 and min(expected[:4]) > 0.0
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_reprojection_gradient_is_finite_with_points_left_out():
    """A masked point must not poison the others."""
    head, position, target, points = problem()
    points[:, 0] = np.nan
    points[:, 1] = position
    x, q = (t.clone().requires_grad_(True) for t in head)
    reprojection_error(x, decode_rotation(q, 'quaternion'), points, position,
                       decode_rotation(target, 'quaternion')).sum().backward()
    assert x.grad.isfinite().all() and q.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_reprojection_does_not_depend_on_the_world_frame():
    """A rigid motion of everything changes nothing."""
    head, position, target, points = problem()
    T = torch.from_numpy(se3.make_transform(
        se3.matrix_from_rotation_vector([0.3, -1.0, 0.5]), [4.0, 5.0, 6.0])).float()
    R, R_label = decode_rotation(head[1], 'quaternion'), decode_rotation(target, 'quaternion')

    def move(x):
        return x @ T[:3, :3].T + T[:3, 3]

    torch.testing.assert_close(
        reprojection_error(move(head[0]), T[:3, :3] @ R, move(points), move(position),
                           T[:3, :3] @ R_label),
        reprojection_error(head[0], R, points, position, R_label), rtol=1e-3, atol=1e-3)


def test_unknown_kind_is_refused():
    """It comes from a configuration."""
    with pytest.raises(ConfigurationError, match='loss kind "huber" is unknown'):
        PoseLoss('huber')
