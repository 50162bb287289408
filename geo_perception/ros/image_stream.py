# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the images of a topic make sense one after the other: their stamps, their pictures."""

import numpy as np

_SECOND = 1_000_000_000
# An image that is behind the newest by more than this is not late: the clock has jumped.
LARGEST_DELAY_NS = _SECOND
# Results are stamped like images, a TF that is broadcast ahead of that: seconds are int32.
_LAST_STAMP_NS = (2 ** 31 - 100) * _SECOND
# Ages of images on arrival that call for a sentence. Beyond the second it is another epoch: a bag
# that is played without /clock, or a camera that counts from its start.
_OLD_NS, _OTHER_EPOCH_NS = _SECOND, 3600 * _SECOND
_AGE_WEIGHT = 0.2   # of the newest age in the running mean
# A picture that did not change for so long and so often.
_FROZEN_NS, _FROZEN_COUNT = 2 * _SECOND, 10
# One in so many rows and columns of pixels is compared: noise is in all of them.
_SKIP = 4


class ImageStream:
    """
    What was seen of one image topic so far.

    Stamps come from the executor's thread, pictures from the worker's.
    """

    def __init__(self):
        self._newest = None       # stamp
        self._age = None          # running mean, ns
        self._sample = None       # pixels of the last picture
        self._changed = None      # stamp of the first picture that looks like the last one
        self._seen = None         # stamp of the last picture
        self._equal = 0           # how many pictures look like the one before, in a row

    def arrival(self, stamp, now):
        """
        Take note of an image that arrives, and judge its stamp.

        Parameters
        ----------
        stamp : int
            Nanoseconds.
        now : int
            Of the clock of the node, nanoseconds; 0 while it is not known.

        Returns
        -------
        category : str
            One word for why it is to be left out; empty where it is not.
        sentence : str
            The same for a person.

        """
        if not 0 <= stamp <= _LAST_STAMP_NS:
            return 'stamp', (f'the image is stamped {1e-9 * stamp:.0f} s, which no clock says; '
                             "mend the camera's driver")
        behind = 0 if self._newest is None else self._newest - stamp
        if self._newest is not None and behind == 0:
            return 'repeated', (
                f'the image of {1e-9 * stamp:.3f} s came again; the camera is frozen, or its '
                'driver sends each image several times: restart it')
        if 0 < behind <= LARGEST_DELAY_NS:
            return 'late', (f'an image came {1e-9 * behind:.3f} s after a newer one; let one node '
                            'only publish the images, over a network that keeps their order')
        self._newest = stamp
        if now > 0:
            age = now - stamp
            jumped = behind > 0 or self._age is None
            self._age = age if jumped else self._age + _AGE_WEIGHT * (age - self._age)
        return '', ''

    def picture(self, stamp, image):
        """
        Take note of a picture that is worked on.

        Parameters
        ----------
        stamp : int
            Nanoseconds.
        image : np.ndarray
            (H, W, 3) uint8.

        """
        sample = image[::_SKIP, ::_SKIP].copy()
        if self._sample is None or stamp < self._changed or not np.array_equal(
                sample, self._sample):
            self._changed, self._equal = stamp, 0
        else:
            self._equal += 1
        self._sample, self._seen = sample, stamp

    def warning(self, simulated):
        """
        Return what is doubtful about images that are worked on.

        Parameters
        ----------
        simulated : bool
            Whether time is simulated; then a picture may stand still, noise and all.

        Returns
        -------
        str
            One sentence, empty if all is well.

        """
        age = self._age or 0
        if _OLD_NS < age < _OTHER_EPOCH_NS:
            return (f'Images arrive {1e-9 * age:.1f} s after they were taken: the network is slow '
                    '(send compressed images), or the clocks of camera and robot differ '
                    '(synchronise them).')
        if _OLD_NS < -age < _OTHER_EPOCH_NS:
            return (f'Images are stamped {-1e-9 * age:.1f} s ahead of the clock: synchronise the '
                    'clocks of camera and robot.')
        still = 0 if self._changed is None else self._seen - self._changed
        if still > _FROZEN_NS and self._equal >= _FROZEN_COUNT and not simulated:
            return (f'The picture has not changed in a single pixel for {1e-9 * still:.1f} s, so '
                    'the camera is frozen: restart its driver.')
        return ''
