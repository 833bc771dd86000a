"""Runs of scal3r in lock step, in processes of their own: started, killed, and gone on with."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from types import MappingProxyType

OPTIONS = ('--set', 'backbone=scal3r', '--set', 'scal3r.size=tiny', '--set',
           'scal3r.weights=random', '--set', 'scal3r.max_side_px=0', '--set',
           'scal3r.max_pixels=6000', '--set', 'scal3r.device=cpu', '--set', 'window.size=8',
           '--set', 'window.overlap=4', '-q', '--no-report')
_PATIENCE_S = 120.0


def arguments(clip: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of the command line for a run."""
    return ['run', str(clip), '--out', str(out), *OPTIONS, *more]


def start(clip: Path, out: Path, *more: str, launcher: Sequence[str] = (),
          env: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen:
    """Start a run in a process of its own; what it says is in ``stderr``."""
    words = [sys.executable, '-m', *launcher, 'longrecon_ros.cli.main']
    return subprocess.Popen([*words, *arguments(clip, out, *more)], text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
                            start_new_session=True)


def torchrun(n: int) -> list[str]:
    """Return the launcher of n processes."""
    return ['torch.distributed.run', '--standalone', '--nproc-per-node', str(n), '-m']


def places(n: int) -> list[dict[str, str]]:
    """Return what tells each of n processes its rank: what torchrun would, but for the rest."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return [{'RANK': str(rank), 'WORLD_SIZE': str(n), 'MASTER_ADDR': '127.0.0.1',
             'MASTER_PORT': str(port)} for rank in range(n)]


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for the end; return the exit code and what was said; leave no process behind."""
    try:
        said = process.communicate(timeout=_PATIENCE_S)[1]
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return process.returncode, said


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Wait until there is a file."""
    end_s = time.monotonic() + _PATIENCE_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end_s, f'{path} did not come'
        time.sleep(0.001)


def same(a: Path, b: Path) -> bool:
    """Say whether two runs have the same results, byte by byte."""
    return all((a / name).read_bytes() == (b / name).read_bytes()
               for name in ('trajectory.txt', 'map.ply'))
