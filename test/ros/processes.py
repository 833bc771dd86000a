"""What the system knows of a process, by /proc: children, threads, open files, shared memory."""

from pathlib import Path


def children(pid):
    """Return the ids of the living children of a process, zombies excepted."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rpartition(')')[2].split()
        except OSError:
            continue        # it has ended meanwhile
        if int(fields[1]) == pid and fields[0] not in 'ZX':
            found.append(int(stat.parent.name))
    return found


def is_alive(pid):
    """Say whether there is a process, zombies excepted."""
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in 'ZX'


def n_threads(pid):
    """Return how many threads a process has."""
    return len(list(Path(f'/proc/{pid}/task').iterdir()))


def n_files(pid):
    """Return how many files a process has open."""
    return len(list(Path(f'/proc/{pid}/fd').iterdir()))


def shared_files():
    """Return the names of the files in shared memory."""
    return {path.name for path in Path('/dev/shm').iterdir()}


def folders(folder):
    """Return the temporary folders of nodes in a folder."""
    return list(Path(folder).glob('longrecon-*'))
