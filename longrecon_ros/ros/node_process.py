"""The SLAM node in a process of its own, for replays and tests."""

import ctypes
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any, List, Mapping, Optional, Sequence

import yaml

from ..errors import LongreconError

_END_S = 60.0       # for the last window after SIGINT
_PR_SET_PDEATHSIG = 1


class NodeProcess:
    """Starts the node; use as a context, which ends it. Its log goes to ``folder``/node.log.

    ``parameters`` have dotted names, ``remaps`` are names to names; ``temporary`` is the folder
    of its temporary files, by default that of the system.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], remaps: Mapping[str, str],
                 arguments: Sequence[str] = (), temporary: Optional[Path] = None):
        file = folder / 'parameters.yaml'
        file.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(parameters)}}))
        self.log = folder / 'node.log'
        command = [sys.executable, '-m', 'longrecon_ros.ros.node', '--ros-args',
                   '--params-file', str(file)]
        for name, target in remaps.items():
            command += ['-r', f'{name}:={target}']
        environment = dict(os.environ)
        if temporary is not None:
            environment['TMPDIR'] = str(temporary)
        with self.log.open('wb') as log:
            # its own session: Ctrl-C is for us to pass on
            self._process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent, env=environment)

    def __enter__(self) -> 'NodeProcess':
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise LongreconError with what the node said last, if it has ended."""
        if self._process.poll() is not None:
            raise LongreconError(f'the node ended with code {self._process.returncode}: '
                                 f'{self._last_words()}')

    def stop(self, number: int = signal.SIGINT) -> int:
        """End the node, the last window included; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise LongreconError(f'the node does not end after {_END_S:.0f} s: '
                                 f'{self._last_words()}') from None

    def complaints(self) -> List[str]:
        """Return the warnings and errors of the node's log."""
        lines = self.log.read_text(errors='replace').splitlines()
        return [line.partition(']: ')[2] for line in lines
                if line.startswith(('[WARN]', '[ERROR]'))]

    def _last_words(self) -> str:
        lines = self.log.read_text(errors='replace').split('\n')
        last = next((line for line in reversed(lines) if line.strip()), 'it said nothing')
        return last.removeprefix('slam_node: ')


def _die_with_parent() -> None:
    """Have Linux kill this process when its parent is gone, even if that was killed itself."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
