# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Rotation outputs of networks go round: encode, normalise, decode, against NumPy's rotations."""

import numpy as np
from numpy.testing import assert_allclose
import pytest
import torch

from geo_perception.geometry import se3
from geo_perception.networks.rotation import (
    decode_rotation, encode_rotation, normalise_rotation, WIDTHS)

RNG = np.random.default_rng(0)
AXES = RNG.normal(size=(60, 3))
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
ANGLES = np.concatenate([[0.0, 1e-9, 1e-6, 1e-3, np.pi - 1e-3, np.pi - 1e-6, np.pi],
                         RNG.uniform(0, np.pi, 53)])
QUATERNIONS = se3.quaternion_from_matrix(se3.matrix_from_rotation_vector(AXES * ANGLES[:, None]))
MATRICES = se3.matrix_from_quaternion(QUATERNIONS)
KINDS = pytest.mark.parametrize('kind', WIDTHS)


@KINDS
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_there_and_back(kind, dtype, tolerance):
    """Also at the identity and at half a turn."""
    target = encode_rotation(torch.tensor(QUATERNIONS, dtype=dtype), kind)
    assert target.shape == (60, WIDTHS[kind]) and target.dtype == dtype
    assert_allclose(decode_rotation(target, kind), MATRICES, atol=tolerance)
    assert_allclose(decode_rotation(normalise_rotation(target, kind), kind), MATRICES,
                    atol=tolerance)


@KINDS
def test_targets_are_on_their_manifold(kind):
    """Normalising a target changes nothing."""
    target = encode_rotation(torch.from_numpy(QUATERNIONS), kind)
    assert_allclose(normalise_rotation(target, kind), target, atol=1e-12)


@KINDS
def test_any_output_is_a_rotation(kind):
    """Whatever a network puts out decodes to an orthonormal matrix of determinant one."""
    raw = torch.randn(200, WIDTHS[kind], dtype=torch.float64,
                      generator=torch.Generator().manual_seed(0)) * 3
    R = decode_rotation(raw, kind).numpy()
    assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    assert_allclose(np.linalg.det(R), 1.0)
    assert_allclose(decode_rotation(normalise_rotation(raw, kind), kind), R, atol=1e-12)


def test_log_quaternion_by_hand():
    """Axis times half the angle (posenet.md section 8.4)."""
    q = torch.from_numpy(QUATERNIONS)
    assert_allclose(encode_rotation(q, 'log_quaternion'), AXES * ANGLES[:, None] / 2, atol=1e-9)
    # The first frame of chess: the test vector of section 12.2.
    q = torch.tensor([[0.995185, -0.096422, 0.016435, 0.006234]])
    assert_allclose(encode_rotation(q, 'log_quaternion'), [[-0.096577, 0.016461, 0.006244]],
                    atol=2e-6)


def test_matrix_target_is_the_first_two_columns():
    """Not rows: the transposed rotation is another one."""
    target = encode_rotation(torch.from_numpy(QUATERNIONS), 'matrix').numpy()
    assert_allclose(target[:, :3], MATRICES[:, :, 0], atol=1e-14)
    assert_allclose(target[:, 3:], MATRICES[:, :, 1], atol=1e-14)


def test_matrix_output_keeps_its_first_column():
    """Gram and Schmidt: the second gives way."""
    raw = torch.tensor([[2.0, 0, 0, 1, 3, 0]])
    assert_allclose(normalise_rotation(raw, 'matrix'), [[1.0, 0, 0, 0, 1, 0]])


def test_quaternions_of_either_sign_and_any_length_decode_alike():
    """The output is not normalised by the network."""
    q = torch.from_numpy(QUATERNIONS)
    for factor in (-1.0, 0.01, -30.0):
        assert_allclose(decode_rotation(factor * q, 'quaternion'), MATRICES, atol=1e-12)


@KINDS
def test_gradients_are_finite(kind):
    """At the identity and at half a turn, through normalising and decoding."""
    raw = encode_rotation(torch.from_numpy(QUATERNIONS), kind).requires_grad_(True)
    (normalise_rotation(raw, kind).sum() + decode_rotation(raw, kind)[:, 0].sum()).backward()
    assert raw.grad.isfinite().all()


@KINDS
def test_gradients_of_decoding_equal_finite_differences(kind):
    """In 64 bits."""
    raw = torch.randn(3, WIDTHS[kind], dtype=torch.float64,
                      generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: decode_rotation(x, kind), raw)
