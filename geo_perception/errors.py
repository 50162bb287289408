# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The exceptions this package raises: one tree, so that a shell can catch them all."""


class GeoPerceptionError(Exception):
    """
    Base of everything this package raises on bad input.

    The message is one sentence for a person: what was wrong, where, and how to mend it. It is on
    one line, though names and texts that it quotes may hold line breaks.
    """

    def __str__(self):
        """Return the message on one line."""
        return ' '.join(super().__str__().splitlines())


class ImageError(GeoPerceptionError):
    """An image or image message cannot be decoded."""


class RecordingError(GeoPerceptionError):
    """A recording is missing, truncated, empty or lacks a topic or file."""


class PoseError(GeoPerceptionError):
    """A pose is not finite, not rigid, or in the wrong convention."""


class TransformError(GeoPerceptionError):
    """A transform between two frames is missing, too old or too new."""


class CalibrationError(GeoPerceptionError):
    """The intrinsics of a camera are missing, absurd, or belong to another image."""


class ModelFileError(GeoPerceptionError):
    """A model file is missing, damaged, foreign, or for another job."""


class WeightsError(GeoPerceptionError):
    """Published weights are missing, damaged, hostile, or of another network."""


class ConfigurationError(GeoPerceptionError):
    """A parameter or option is unknown, of the wrong type, or out of range."""


class OutputError(GeoPerceptionError):
    """A file or folder cannot be written."""


class RunError(GeoPerceptionError):
    """What a measurement left behind is missing, damaged, or cannot be compared."""


class ReplayError(GeoPerceptionError):
    """The live graph did not come up or did not answer during a replay."""
