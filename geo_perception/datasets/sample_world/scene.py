# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The place: a room, its furniture, the things that move in it, and the light.

World frame ``map``: origin on the floor in the middle of the room, x east, y north, z up,
metres. Every surface is a textured rectangle. The seed draws the textures and shades the
colours; floor plan and tracks are the same for every seed, so that the robot's paths stay free.
"""

from dataclasses import dataclass
import zlib

import cv2
import numpy as np

from geo_perception.datasets.sample_world import textures
from geo_perception.geometry.se3 import make_transform, transform_points

ROOM = (6.0, 5.0, 2.7)        # metres along x, y, z
_ROOM_TEXELS = 100.0          # texels per metre
_BOX_TEXELS = 133.0
# Seen from outside: row direction of the texture for each outward normal. Columns run down,
# or along -y on top and +y below, so that normal = down x right.
_NORMALS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
_RIGHT = np.array([[0, 1, 0], [0, -1, 0], [-1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], float)
_DOWN = np.array([[0, 0, -1], [0, 0, -1], [0, 0, -1], [0, 0, -1], [0, -1, 0], [0, 1, 0]], float)
_SIDES = ('+x', '-x', '+y', '-y', '+z', '-z')
_SIDE_SHADE = (0.92, 0.84, 0.88, 0.80, 1.0, 0.62)   # baked, so that edges of a box show


@dataclass(frozen=True)
class Box:
    """
    A textured box.

    Attributes
    ----------
    name : str
        What it stands for; also seeds its texture.
    size : tuple of float
        Metres along its own x, y, z.
    centre : tuple of float
        Centre of the bottom face, metres: in ``map``, or for a mover relative to its track.
    colour : tuple of float
        RGB albedo, 0..1.
    drawings : dict
        Function of ``textures`` that draws on a side, by side (``'+x'`` ... ``'-z'``).
    yaw : float
        Radians about z.

    """

    name: str
    size: tuple
    centre: tuple
    colour: tuple
    drawings: dict
    yaw: float = 0.0

    @property
    def T_world_box(self):
        """Pose of the box, its origin in its middle, 4x4."""
        x, y, z = self.centre
        return make_transform(_rotation_z(self.yaw), (x, y, z + self.size[2] / 2))


@dataclass(frozen=True)
class Track:
    """
    A closed elliptic track.

    Attributes
    ----------
    centre : tuple of float
        Metres in ``map``.
    radii : tuple of float
        Semi-axes along x and y, metres.
    period : float
        Seconds a lap; negative runs clockwise.
    bob : float
        Amplitude of an up-and-down motion, metres, three times a lap.
    spin : float
        Turns of the box about its own vertical axis in each lap.

    """

    centre: tuple
    radii: tuple
    period: float
    bob: float
    spin: float

    def pose(self, seconds):
        """Return the 4x4 pose on the track at a time in seconds."""
        angle = 2 * np.pi * seconds / self.period
        offset = (self.radii[0] * np.cos(angle), self.radii[1] * np.sin(angle),
                  self.bob * np.sin(3 * angle))
        return make_transform(_rotation_z(self.spin * angle), np.add(self.centre, offset))


@dataclass(frozen=True)
class Light:
    """
    Slowly changing light: a gain for the whole room and a soft spot that wanders.

    Attributes
    ----------
    phase : float
        Radians; two passes with different phases see the same place in different light.
    changing : bool
        False freezes gain and spot, which makes brightness constancy exact.

    """

    phase: float
    changing: bool = True

    def at(self, seconds):
        """
        Return what the renderer needs at a time.

        Parameters
        ----------
        seconds : float
            Time since the start of the pass.

        Returns
        -------
        gain : float
            Factor on every albedo far from the spot.
        spot : np.ndarray
            Centre of the spot in ``map``, metres, shape (3,).

        """
        seconds = seconds if self.changing else 0.0
        gain = 0.80 + 0.07 * np.sin(2 * np.pi * seconds / 23 + self.phase)
        angle = 2 * np.pi * seconds / 37 + 2 * self.phase
        return gain, np.array([1.7 * np.cos(angle), 1.3 * np.sin(angle), 1.2])


FURNITURE = (
    Box('bookshelf', (1.30, 0.36, 2.0), (-2.00, 2.31, 0), (0.36, 0.24, 0.16),
        {'-y': textures.books}),
    Box('sideboard', (1.50, 0.45, 0.72), (-0.20, 2.26, 0), (0.55, 0.40, 0.24),
        {'-y': textures.doors}),
    Box('television', (0.95, 0.08, 0.56), (-0.30, 2.36, 0.78), (0.10, 0.10, 0.12),
        {'-y': textures.screen}),
    Box('plant box', (0.42, 0.42, 1.15), (1.05, 2.22, 0), (0.18, 0.42, 0.20), {}),
    Box('wardrobe', (0.55, 1.10, 2.1), (2.70, 1.60, 0), (0.62, 0.60, 0.54),
        {'-x': textures.doors}),
    Box('desk', (0.55, 1.40, 0.74), (2.70, -0.75, 0), (0.58, 0.46, 0.30), {}),
    Box('monitor', (0.08, 0.62, 0.40), (2.80, -0.60, 0.82), (0.12, 0.12, 0.14),
        {'-x': textures.screen}),
    Box('desk lamp', (0.16, 0.16, 0.45), (2.72, -1.25, 0.74), (0.82, 0.52, 0.14), {}),
    Box('stool', (0.38, 0.38, 0.50), (2.30, -1.98, 0), (0.60, 0.16, 0.16),
        {'-x': textures.stripes, '+y': textures.stripes}, 0.3),
    Box('sofa seat', (1.80, 0.60, 0.42), (-0.50, -2.15, 0), (0.16, 0.34, 0.48), {}),
    Box('sofa back', (1.80, 0.20, 0.42), (-0.50, -2.38, 0.42), (0.14, 0.30, 0.44), {}),
    Box('cushion', (0.42, 0.16, 0.34), (-0.95, -2.16, 0.42), (0.78, 0.50, 0.16),
        {'+y': textures.painting}, 0.15),
    Box('side table', (0.40, 0.40, 0.55), (0.85, -2.22, 0), (0.30, 0.18, 0.12), {}),
    Box('chest', (0.50, 1.20, 0.55), (-2.72, -1.20, 0), (0.30, 0.46, 0.40),
        {'+x': textures.doors}),
    Box('crate', (0.36, 0.40, 0.32), (-2.70, -1.40, 0.55), (0.66, 0.46, 0.28),
        {'+x': textures.stripes, '+y': textures.stripes}, -0.2),
    Box('door', (0.05, 0.90, 2.0), (-2.97, 1.15, 0), (0.70, 0.66, 0.56),
        {'+x': textures.panels}),
    Box('window', (0.05, 1.30, 1.10), (-2.97, -0.35, 1.05), (0.8, 0.8, 0.8),
        {'+x': textures.window}),
    Box('east picture', (0.04, 0.90, 0.65), (2.97, 0.40, 1.30), (0.62, 0.55, 0.40),
        {'-x': textures.painting}),
    Box('south picture', (1.20, 0.04, 0.75), (-0.55, -2.47, 1.25), (0.50, 0.58, 0.60),
        {'+y': textures.painting}),
    Box('south poster', (0.55, 0.04, 0.80), (1.50, -2.47, 1.05), (0.74, 0.64, 0.30),
        {'+y': textures.painting}),
    Box('north picture', (0.60, 0.04, 0.80), (2.00, 2.47, 1.15), (0.30, 0.50, 0.52),
        {'-y': textures.painting}),
)

_ALL_ROUND = ('+x', '-x', '+y', '-y')
# The cart drives inside the ring that the robot drives, the lantern hangs above it; the balloon
# floats round between the ring and the furniture, the toy train on the wall in the corner.
MOVERS = (
    (Box('cart', (0.40, 0.26, 0.36), (0, 0, 0), (0.80, 0.42, 0.10),
         dict.fromkeys(_ALL_ROUND, textures.stripes), np.pi / 2),
     Track((0.0, 0.0, 0.0), (0.38, 0.20, 0), 14.0, 0.0, 1.0)),
    (Box('lantern', (0.28, 0.28, 0.36), (0, 0, 0), (0.82, 0.72, 0.30),
         dict.fromkeys(_ALL_ROUND, textures.stripes)),
     Track((0.0, 0.0, 0.98), (0.38, 0.28, 0), -9.0, 0.05, 1.0)),
    (Box('balloon', (0.36, 0.36, 0.36), (0, 0, 0), (0.72, 0.16, 0.32),
         dict.fromkeys(_ALL_ROUND, textures.painting)),
     Track((0.0, 0.0, 1.15), (2.20, 1.65, 0), -21.0, 0.08, -2.0)),
    (Box('toy train', (0.40, 0.16, 0.22), (0, 0, 0), (0.16, 0.36, 0.74),
         dict.fromkeys(_ALL_ROUND, textures.stripes)),
     Track((1.60, 2.16, 1.17), (0.60, 0.14, 0), 11.0, 0.0, 0.0)),
)


class Scene:
    """
    The surfaces of the place, ready for the renderer.

    Body 0 is everything that stands still; body k is mover k - 1. Faces of a mover are given
    in its own frame, all others in ``map``.

    Parameters
    ----------
    seed : int
        Draws textures and shades of colour.

    Attributes
    ----------
    corners, rights, downs, normals : np.ndarray
        Per face the texture's top left corner (metres), the unit directions of its rows and
        columns, and the normal towards the visible side, shape (F, 3).
    sizes : np.ndarray
        Width and height of each face, metres, shape (F, 2).
    densities : np.ndarray
        Texels per metre of each face, shape (F,).
    bodies : np.ndarray
        Body of each face, shape (F,).
    atlas : textures.Atlas
        Canvas i belongs to face i.

    """

    def __init__(self, seed):
        self._seed = seed
        faces, canvases = [], []
        for index, canvas in enumerate(self._room_canvases()):
            # A wall is the inner side: its normal points into the room from the far face.
            middle = np.array([0, 0, ROOM[2] / 2]) - _NORMALS[index] * np.array(ROOM) / 2
            faces.append(_face(middle, index, ROOM) + (_ROOM_TEXELS, 0))
            canvases.append(canvas)
        for body, box in [(0, box) for box in FURNITURE] + [
                (body, box) for body, (box, _) in enumerate(MOVERS, 1)]:
            T = box.T_world_box
            for index in range(6):
                corner, right, down, normal, size = _face(
                    _NORMALS[index] * np.array(box.size) / 2, index, box.size)
                faces.append((transform_points(T, corner), T[:3, :3] @ right, T[:3, :3] @ down,
                              T[:3, :3] @ normal, size, _BOX_TEXELS, body))
                canvases.append(self._box_canvas(box, index, size))
        (self.corners, self.rights, self.downs, self.normals, self.sizes, self.densities,
         self.bodies) = (np.array(column) for column in zip(*faces))
        self.atlas = textures.Atlas([textures.soften(canvas) for canvas in canvases])

    def body_poses(self, seconds):
        """
        Return the pose of every body at a time on the tracks.

        Parameters
        ----------
        seconds : float
            Time on the tracks.

        Returns
        -------
        np.ndarray
            ``T_world_body``, shape (1 + number of movers, 4, 4); the first is the identity.

        """
        return np.stack([np.eye(4)] + [track.pose(seconds) for _, track in MOVERS])

    def _random(self, name):
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])

    def _box_canvas(self, box, index, size):
        rng = self._random(f'{box.name} {_SIDES[index]}')
        shade = self._random(box.name).uniform(0.9, 1.1, 3)
        width, height = (max(4, round(n * _BOX_TEXELS)) for n in size)
        canvas = textures.plain(rng, height, width, np.multiply(box.colour, shade))
        if _SIDES[index] in box.drawings:
            box.drawings[_SIDES[index]](rng, canvas)
        return canvas * np.float32(_SIDE_SHADE[index])

    def _room_canvases(self):
        colours = ((0.66, 0.58, 0.46), (0.52, 0.62, 0.66), (0.70, 0.56, 0.52),
                   (0.56, 0.64, 0.50), (0.50, 0.37, 0.25), (0.76, 0.75, 0.72))
        for index, colour in enumerate(colours):
            rng = self._random(f'room {_SIDES[index]}')
            width, height = (round(_ROOM_TEXELS * n) for n in _face_size(index, ROOM))
            canvas = textures.plain(rng, height, width, colour, 0.16 if index == 5 else 0.22)
            if index < 4:
                canvas[-10:] = np.float32((0.28, 0.20, 0.15))   # skirting board
            elif _SIDES[index] == '+z':
                textures.rug(rng, canvas)
                canvas *= _contact_shadow(height, width)[..., None]
            yield canvas * _corner_shade(height, width)[..., None]


def _rotation_z(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _face_size(index, size):
    return np.array([abs(_RIGHT[index] @ size), abs(_DOWN[index] @ size)])


def _face(middle, index, size):
    """Return corner, right, down, normal and size of the face with that outward normal."""
    width, height = _face_size(index, size)
    right, down = _RIGHT[index], _DOWN[index]
    corner = middle - right * width / 2 - down * height / 2
    return corner, right, down, _NORMALS[index], np.array([width, height])


def _corner_shade(height, width):
    """Return the darkening of a room surface towards its edges, shape (H, W)."""
    def ramp(n):
        edge = np.minimum(np.arange(n), np.arange(n)[::-1]) / _ROOM_TEXELS
        return 1 - 0.25 * np.exp(-edge / 0.25)
    return (ramp(height)[:, None] * ramp(width)).astype(np.float32)


def _contact_shadow(height, width):
    """Return the darkening of the floor under and around standing furniture, shape (H, W)."""
    shadow = np.zeros((height, width), np.float32)
    for box in FURNITURE:
        if box.centre[2] == 0:
            signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
            local = np.column_stack([signs * np.array(box.size[:2]) / 2, np.zeros(4)])
            x, y, _ = transform_points(box.T_world_box, local).T
            pixels = np.stack([x + ROOM[0] / 2, ROOM[1] / 2 - y], -1) * _ROOM_TEXELS
            cv2.fillConvexPoly(shadow, np.int32(np.round(pixels)), 1.0)
    return 1 - 0.55 * cv2.GaussianBlur(shadow, (0, 0), 14)
