# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Smooth multi-octave textures, and the atlas that packs them with their mip levels.

Every octave has cells of at least four texels and an amplitude proportional to its cell, so
that a photometric loss finds gradients over many pixels (monodepth.md section 19.5).
A canvas is (H, W, 3) float32 RGB, albedo in 0..1, rows going down.
"""

import cv2
import numpy as np

CELLS = (4, 8, 16, 32, 64)   # texels
MIP_LEVELS = 5
_MARGIN = 2 ** (MIP_LEVELS - 1)   # one texel of margin is left at the coarsest level


def noise(rng, height, width):
    """
    Return smooth noise: five octaves of cubic noise, amplitude proportional to the cell.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    height, width : int
        Texels.

    Returns
    -------
    np.ndarray
        Shape (H, W) float32, about -1..1, mean near zero.

    """
    total = np.zeros((height, width), np.float32)
    for cell in CELLS:
        down, across = (_cubic_weights(n, cell, cell * rng.random()) for n in (height, width))
        grid = rng.random((down.shape[1], across.shape[1])).astype(np.float32) * 2 - 1
        total += (cell / CELLS[-1]) * (down @ grid @ across.T)
    return total


def _cubic_weights(count, cell, phase):
    """Return the Catmull-Rom weights of a grid with that cell for each of some texels."""
    position = (np.arange(count) + phase) / cell
    first = position.astype(int)
    t = (position - first)[:, None]
    weights = np.zeros((count, first[-1] + 4), np.float32)
    np.put_along_axis(weights, first[:, None] + np.arange(4), np.float32(np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2],
        1) / 2), 1)
    return weights


def plain(rng, height, width, base, contrast=0.3):
    """
    Return a painted surface: one colour, uneven in brightness and slightly in hue.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    height, width : int
        Texels.
    base : sequence of float
        RGB albedo, 0..1.
    contrast : float
        Relative amplitude of the brightness noise.

    Returns
    -------
    np.ndarray
        Canvas.

    """
    brightness = 1 + contrast * noise(rng, height, width)
    tint = np.stack([noise(rng, height, width) for _ in range(3)], -1)
    return np.asarray(base, np.float32) * brightness[..., None] * (1 + 0.2 * contrast * tint)


def books(rng, canvas):
    """Draw three shelves of upright books on a canvas, in place."""
    height, width = canvas.shape[:2]
    for shelf in range(3):
        top, bottom = (shelf * height) // 3 + 4, ((shelf + 1) * height) // 3 - 4
        left = 4
        while left < width - 10:
            thick = int(rng.integers(6, 13))
            short = top + int(rng.integers(0, max(1, (bottom - top) // 3)))
            colour = _hue(rng.random(), 0.55, 0.35 + 0.35 * rng.random())
            right = min(left + thick, width - 4)
            canvas[short:bottom, left:right] *= 0.25
            canvas[short:bottom, left:right] += 0.75 * colour
            left = right + (int(rng.integers(8, 24)) if rng.random() < 0.15 else 0)


def painting(rng, canvas):
    """Draw a framed abstract picture of large soft blobs on a canvas, in place."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(9):
        cy, cx = rng.random(2) * (height, width)
        radius = (0.12 + 0.16 * rng.random()) * min(height, width)
        weight = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / 3))
        colour = _hue(rng.random(), 0.6, 0.3 + 0.55 * rng.random())
        canvas += 0.8 * weight[..., None] * (colour - canvas)
    _frame(canvas, 6, (0.22, 0.15, 0.10))


def window(rng, canvas):
    """Draw a bright window with a sky, a skyline and a cross bar on a canvas, in place."""
    height, width = canvas.shape[:2]
    fall = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (1 - fall) * np.float32([0.50, 0.66, 0.85]) + fall * np.float32([0.85, 0.86, 0.80])
    canvas *= 0.2
    canvas += 0.8 * sky
    left = 0
    while left < width:
        wide = int(rng.integers(12, 30))
        top = int(height * (0.45 + 0.35 * rng.random()))
        canvas[top:, left:left + wide] = _hue(rng.random(), 0.25, 0.35 + 0.2 * rng.random())
        left += wide
    canvas[height // 2 - 3:height // 2 + 3] = 0.75
    canvas[:, width // 2 - 3:width // 2 + 3] = 0.75
    _frame(canvas, 7, (0.78, 0.76, 0.72))


def doors(rng, canvas):
    """Draw the seams and handles of two cupboard doors on a canvas, in place."""
    height, width = canvas.shape[:2]
    middle = int(width * (0.42 + 0.16 * rng.random()))
    _frame(canvas, 4, canvas.mean((0, 1)) * 0.6)
    canvas[:, middle - 2:middle + 2] *= 0.45
    for x in (middle - 10, middle + 10):
        y = height // 2
        cv2.circle(canvas, (x, y), 4, (0.15, 0.13, 0.12), -1)


def panels(rng, canvas):
    """Draw sunken panels, as on a room door, on a canvas, in place."""
    height, width = canvas.shape[:2]
    for top, bottom in ((0.07, 0.42), (0.52, 0.93)):
        for left, right in ((0.12, 0.45), (0.55, 0.88)):
            cv2.rectangle(canvas, (int(left * width), int(top * height)),
                          (int(right * width), int(bottom * height)),
                          tuple(float(c) for c in canvas.mean((0, 1)) * 0.6), 3)
    cv2.circle(canvas, (int(0.9 * width), int(0.48 * height)), 4, (0.7, 0.6, 0.3), -1)


def screen(rng, canvas):
    """Draw a lit screen with a few windows on a canvas, in place."""
    height, width = canvas.shape[:2]
    canvas *= 0.3
    canvas += np.float32([0.10, 0.16, 0.30])
    for _ in range(4):
        top, left = (rng.random(2) * (height * 0.6, width * 0.6)).astype(int) + 6
        colour = _hue(rng.random(), 0.35, 0.5 + 0.3 * rng.random())
        canvas[top:top + height // 3, left:left + width // 3] = colour
    _frame(canvas, 5, (0.08, 0.08, 0.09))


def stripes(rng, canvas):
    """Draw three broad bands of a second colour on a canvas, in place."""
    width = canvas.shape[1]
    colour = _hue(rng.random(), 0.5, 0.75)
    for centre in (0.2, 0.5, 0.8):
        half = max(2, int(width * 0.05))
        x = int(centre * width)
        canvas[:, max(0, x - half):x + half] = colour


def rug(rng, canvas):
    """Draw a patterned rug in the middle half of a canvas, in place."""
    height, width = canvas.shape[:2]
    top, bottom, left, right = height // 4, 3 * height // 4, width // 4, 3 * width // 4
    cloth = canvas[top:bottom, left:right]
    weave = plain(rng, *cloth.shape[:2], (0.42, 0.20, 0.20), 0.35)
    painting(rng, weave)
    cloth[:] = 0.6 * weave + 0.4 * np.float32([0.45, 0.25, 0.22])
    _frame(cloth, 8, (0.70, 0.60, 0.42))


def soften(canvas):
    """
    Return a canvas without detail finer than the renderer samples, clipped to 0.02..0.9.

    Parameters
    ----------
    canvas : np.ndarray
        Canvas.

    Returns
    -------
    np.ndarray
        Canvas.

    """
    return np.clip(cv2.GaussianBlur(canvas, (0, 0), 1.3), 0.02, 0.9)


def _frame(canvas, thick, colour):
    for part in (canvas[:thick], canvas[-thick:], canvas[:, :thick], canvas[:, -thick:]):
        part[:] = colour


def _hue(hue, saturation, value):
    pixel = np.float32([[[360 * hue, saturation, value]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


class Atlas:
    """
    All textures in one image, its mip levels stacked on the right.

    Parameters
    ----------
    canvases : list of np.ndarray
        Canvases, (H, W, 3) float32, albedo 0..1.

    Attributes
    ----------
    image : np.ndarray
        (H, W', 3) uint8, every mip level in one image.
    offsets : np.ndarray
        Texel (x, y) of the outer top left corner of each canvas at level 0, shape (N, 2).
    level_offsets : np.ndarray
        Column and row at which each level starts, shape (MIP_LEVELS, 2).

    """

    def __init__(self, canvases):
        width = 2048
        offsets = np.zeros((len(canvases), 2), int)
        x = y = shelf = 0
        # Shelf packing, tallest first; each place is aligned to the coarsest texel.
        for index in sorted(range(len(canvases)), key=lambda i: -canvases[i].shape[0]):
            h, w = (-(-(n + 2 * _MARGIN) // _MARGIN) * _MARGIN
                    for n in canvases[index].shape[:2])
            if x + w > width:
                x, y, shelf = 0, y + shelf, 0
            offsets[index] = x, y
            x, shelf = x + w, max(shelf, h)
        level = np.zeros((y + shelf, width, 3), np.uint8)
        for canvas, (x, y) in zip(canvases, offsets):
            h, w = canvas.shape[:2]
            right, bottom = (-(n + _MARGIN) % _MARGIN + _MARGIN for n in (w, h))
            level[y:y + h + _MARGIN + bottom, x:x + w + _MARGIN + right] = cv2.copyMakeBorder(
                np.uint8(canvas * 255 + 0.5), _MARGIN, bottom, _MARGIN, right,
                cv2.BORDER_REPLICATE)
        self.offsets = offsets + _MARGIN
        self.image = np.zeros((level.shape[0], width * 3 // 2, 3), np.uint8)
        self.level_offsets = np.zeros((MIP_LEVELS, 2), int)
        x = y = 0
        for index in range(MIP_LEVELS):
            h, w = level.shape[:2]
            self.image[y:y + h, x:x + w] = level
            self.level_offsets[index] = x, y
            x, y = (width, 0) if index == 0 else (x, y + h)
            level = cv2.resize(level, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
