# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A lifecycle node that neither dies from a transition nor hides why one failed."""

import traceback

from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from geo_perception.errors import GeoPerceptionError


class GuardedLifecycleNode(LifecycleNode):
    """
    Lifecycle node whose subclasses fill in four plain methods.

    ``configure``, ``activate``, ``deactivate`` and ``cleanup`` return nothing and raise on
    failure. rclpy swallows an exception in a transition without a line of log, and lets an
    illegal request end the process (ros2_runtime.md section 7); here the first is logged and
    becomes FAILURE, the second is answered with ``success: false``.

    Attributes
    ----------
    phase : str
        ``unconfigured``, ``inactive``, ``active`` or ``finalized``.
    last_failure : str
        Why the last transition failed, one sentence; empty when it succeeded.

    """

    phase = 'unconfigured'
    last_failure = ''

    def configure(self):
        """Allocate what lives long; after a failure ``cleanup`` is called."""

    def activate(self):
        """Open the inputs; after a failure ``deactivate`` is called."""

    def deactivate(self):
        """Close the inputs; must work when ``activate`` stopped half way."""

    def cleanup(self):
        """Release everything; must work when ``configure`` stopped half way."""

    def accepts_parameters(self):
        """
        Tell whether parameters may be changed now.

        Returns
        -------
        bool

        """
        return self.phase == 'unconfigured'

    def start(self):
        """
        Configure and activate, for a node without a manager.

        Returns
        -------
        bool
            True when the node is active; ``last_failure`` says why it is not.

        """
        return (self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def destroy_node(self):
        """Destroy the node, and its state machine: rclpy leaves both to the garbage collector."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def on_configure(self, state):
        """Run ``configure``."""
        return self._transition('configure', 'inactive', super().on_configure, state,
                                undo=self.cleanup)

    def on_activate(self, state):
        """Run ``activate`` and switch the lifecycle publishers on."""
        return self._transition('activate', 'active', super().on_activate, state,
                                undo=self.deactivate)

    def on_deactivate(self, state):
        """Run ``deactivate`` and switch the lifecycle publishers off."""
        return self._transition('deactivate', 'inactive', super().on_deactivate, state)

    def on_cleanup(self, state):
        """Run ``cleanup``."""
        return self._transition('cleanup', 'unconfigured', super().on_cleanup, state)

    def on_shutdown(self, state):
        """Deactivate and clean up from whatever state it is."""
        self._release()
        self.phase, self.last_failure = 'finalized', ''
        return super().on_shutdown(state)

    def on_error(self, state):
        """Forget everything, as before the first configuration."""
        self._release()
        self.phase = 'unconfigured'
        return super().on_error(state)

    def _release(self):
        self._attempt('deactivate', self.deactivate)
        self._attempt('cleanup', self.cleanup)

    def _transition(self, step, phase, parent, state, undo=None):
        """Run one step and tell rclpy how it went."""
        self.last_failure = self._attempt(step, getattr(self, step))
        if self.last_failure:
            if undo is not None:
                self._attempt(f'undo of {step}', undo)
            return TransitionCallbackReturn.FAILURE
        self.phase = phase
        return parent(state)

    def _attempt(self, step, function):
        """Return '' or the sentence that was logged."""
        try:
            function()
        except GeoPerceptionError as error:
            self.get_logger().error(f'{step} failed: {error}')
            return str(error)
        except Exception as error:
            if not self.context.ok():
                return f'a signal ended the process during {step}'
            self.get_logger().error(f'{step} failed:\n{traceback.format_exc()}')
            return f'internal error in {step}: {type(error).__name__}: {error}'
        return ''

    def _LifecycleNodeMixin__on_change_state(self, request, response):
        """Answer an illegal request instead of raising out of spin() (ros2/rclpy #1209)."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except RCLError as error:
            wanted = request.transition.label or request.transition.id
            self.get_logger().warning(
                f"refused transition '{wanted}' in state '{self.phase}': {error}")
            response.success = False
            return response
