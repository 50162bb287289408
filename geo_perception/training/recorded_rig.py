# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The rig of a recording, looked at before anything is learned from its pairs."""

import logging

from geo_perception.datasets.rig_check import check_rig
from geo_perception.errors import RecordingError

log = logging.getLogger(__name__)


def check_recorded_rig(spec, sequence, max_disparity, accept):
    """
    Look at a rig, and refuse one of which nothing can be learned.

    Parameters
    ----------
    spec : str
        Recording, as the user named it.
    sequence : Sequence
        From `geo_perception.datasets.recording.open_stereo`.
    max_disparity : float
        The largest one that is to be learned, parts of the width.
    accept : bool
        Train all the same.

    Raises
    ------
    RecordingError
        When the rig is hopeless.

    """
    report = check_rig(sequence, max_disparity)
    if report.hopeless and not accept:
        raise RecordingError(f'{spec}: {report.verdict()} Look closer with "geo_perception '
                             'prepare stereo"; --data.accept_rig true trains all the same')
    if report.faults or report.warnings:
        log.warning('%s: %s', spec, report.verdict())
