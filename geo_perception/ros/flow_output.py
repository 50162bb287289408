# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves, as topics of a node."""

import numpy as np
from sensor_msgs.msg import Image, TimeReference

from geo_perception.ros.messages import image_message, make_header, ns_to_stamp

# Topic -> encoding; all have the size of the network (ros2_conventions.md section 5).
FLOW_IMAGES = {'flow': '32FC2', 'rigid_flow': '32FC2', 'flow_valid': 'mono8',
               'motion_mask': 'mono8', 'motion_score': '32FC1'}
REFERENCE = 'flow_reference'


class FlowOutput:
    """
    The topics of flow, each filled while somebody listens to it.

    Parameters
    ----------
    node : PerceptionNode
        Whose topics they are.

    """

    def __init__(self, node):
        self._images = {name: node.add_output(Image, f'~/{name}') for name in FLOW_IMAGES}
        # Pixels become a speed only by the time between the images, and some are left out.
        self._reference = node.add_output(TimeReference, f'~/{REFERENCE}')

    def is_wanted(self):
        """
        Tell whether anybody listens to more than the reference, which alone says nothing.

        Returns
        -------
        bool

        """
        return any(output.get_subscription_count() for output in self._images.values())

    def publish(self, frame_id, estimate):
        """
        Publish what is known of the newest image.

        Parameters
        ----------
        frame_id : str
            Optical frame.
        estimate : FlowEstimate
            Its backward field is that of the newest image.

        """
        stamp, field = estimate.later_stamp, estimate.backward
        arrays = {'flow': field.flow, 'rigid_flow': field.rigid, 'flow_valid': field.valid,
                  'motion_mask': field.moving, 'motion_score': field.score}
        self._reference.publish(TimeReference(
            header=make_header(stamp, frame_id), time_ref=ns_to_stamp(estimate.earlier_stamp),
            source='image'))
        for name, encoding in FLOW_IMAGES.items():
            if self._images[name].get_subscription_count():
                array = arrays[name]
                if encoding == 'mono8':
                    array = np.uint8(255) * array
                self._images[name].publish(image_message(stamp, frame_id, array, encoding))
