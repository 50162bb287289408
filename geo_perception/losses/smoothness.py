# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How rough a map is (sfmlearner.md section 2, geonet.md section 2.2)."""


def _along_x(values):
    return values[..., 1:] - values[..., :-1]


def _along_y(values):
    return values[..., 1:, :] - values[..., :-1, :]


def second_order(disparity):
    """
    Return the mean absolute second differences, all four.

    Parameters
    ----------
    disparity : torch.Tensor
        Shape (B, 1, H, W).

    Returns
    -------
    torch.Tensor
        A number.

    """
    dx, dy = _along_x(disparity), _along_y(disparity)
    return sum(second.abs().mean()
               for second in (_along_x(dx), _along_y(dx), _along_x(dy), _along_y(dy)))


def edge_aware(values, image, axes='xy'):
    """
    Return the mean absolute first differences, less where the image has edges.

    Parameters
    ----------
    values : torch.Tensor
        Disparity or flow, shape (B, C, H, W).
    image : torch.Tensor
        Shape (B, 3, H, W).
    axes : str
        ``xy``, or ``x`` alone, as Monodepth's released code has it (monodepth.md section 9).

    Returns
    -------
    torch.Tensor
        A number.

    """
    return sum((difference(values).abs()
                * (-difference(image).abs().mean(1, keepdim=True)).exp()).mean()
               for difference in (_along_x, _along_y)[:len(axes)])


def mean_normalised(disparity):
    """
    Return a disparity divided by its mean over the image (sfmlearner.md section 8.2).

    Parameters
    ----------
    disparity : torch.Tensor
        Shape (B, 1, H, W).

    Returns
    -------
    torch.Tensor
        Shape (B, 1, H, W).

    """
    return disparity / disparity.mean((2, 3), keepdim=True)
