"""Log lines of the command line."""

import logging
import sys


class _StderrHandler(logging.StreamHandler):
    """Writes to whatever `sys.stderr` is now: a progress display puts itself there."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


def set_up_logging(is_verbose: bool, is_quiet: bool) -> None:
    """Send log records of the package to stderr; other packages' from warnings up."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter('%(levelname)s: %(message)s'))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = logging.DEBUG if is_verbose else logging.WARNING if is_quiet else logging.INFO
    logging.getLogger(__package__.partition('.')[0]).setLevel(level)
