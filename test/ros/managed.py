"""A rig for a node that is led through its states, and whose processes are watched."""

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import children
from rig import LATCHED, Rig

SMALL = {'window.size': 8, 'window.overlap': 3, 'node.use_extrinsic': 'none',
         'loop.use_thread': 'never'}


class ManagedRig(Rig):
    """A rig that does not wait until the node listens; ``told`` is its newest ~/status."""

    def __init__(self, folder, parameters=(), **options):
        super().__init__(folder, {**SMALL, 'node.save_folder': str(folder / 'saved'),
                                  **dict(parameters)}, **options)
        self.told = {}

    def is_up(self):
        """Say whether the node says anything."""
        return bool(self.status)

    def __enter__(self):
        super().__enter__()
        self.node.create_subscription(
            DiagnosticStatus, f'{self._namespace}/longrecon/status', self._take_told, LATCHED)
        return self

    def change(self, transition):
        """Ask for a transition, by its label or number; return whether it was made."""
        answer = self.begin_to_change(transition)
        self.wait(answer.done, 60.0)
        return answer.result().success

    def begin_to_change(self, transition):
        """Ask for a transition; return the future of the answer."""
        wanted = Transition(label=transition) if isinstance(transition, str) else \
            Transition(id=transition)
        return self.begin_to_ask(ChangeState, 'change_state',
                                 ChangeState.Request(transition=wanted))

    def state(self):
        """Return the label of the node's state."""
        return self.ask(GetState, 'get_state').current_state.label

    def wait_active(self):
        """Wait until the node listens to the camera."""
        self.wait(super().is_up)

    def worker(self):
        """Return the process id of the worker; there is one."""
        pid, = children(self.process.pid)
        return pid

    def _take_told(self, message):
        self.told = {value.key: value.value for value in message.values}
