"""The LASER cases."""

from typing import List

import laser_functions
import laser_stream
from reader import Case
from result import Result


def results(case: Case) -> List[Result]:
    """Compare a case: single functions, or a whole stream."""
    is_stream = isinstance(case.about['input'], dict)
    return (laser_stream if is_stream else laser_functions).results(case)
