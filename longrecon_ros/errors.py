"""The exception tree of the package.

    LongreconError            anything a user can mend; says what, where, and what to do
    +-- ConfigError           an unknown or impossible parameter
    +-- InputError            images, videos, calibrations or trajectories that cannot be read
    |   +-- BagError          a bag that cannot be read, or whose topic is unclear
    +-- WeightsError          a checkpoint that is missing, damaged or of another net
    +-- AlignmentError        two windows whose overlap does not determine a similarity
    +-- ExportError           a net that cannot be written as graphs, or graphs that differ from it
    +-- RunError              a run that several processes share has lost one of them
    +-- MissingDependency     an optional package is not installed; says the install line

Misuse of the Python API (wrong shape, wrong dtype) raises ``ValueError`` naming the argument.
The command line prints a `LongreconError` as one line and exits with 2.
"""


class LongreconError(Exception):
    """Root of everything this package raises on purpose; the message ends with the next step."""


class ConfigError(LongreconError):
    """A parameter is unknown, has the wrong type, or contradicts another one."""


class InputError(LongreconError):
    """An input (images, video, calibration, trajectory) is missing, damaged or inconsistent."""


class BagError(InputError):
    """A bag is missing, damaged, empty, or has no (or no single) image topic."""


class WeightsError(LongreconError):
    """A checkpoint is missing, damaged, or belongs to another net."""


class AlignmentError(LongreconError):
    """The overlap of two windows does not determine the similarity between them."""


class ExportError(LongreconError):
    """A net cannot be written as a graph, or the graph does not give what the net gives."""


class RunError(LongreconError):
    """A run that several processes share has lost one of them; what was reached is kept."""


class MissingDependency(LongreconError):
    """An optional dependency is absent; the message names the ``pip install`` line."""
