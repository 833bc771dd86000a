"""Shared test settings: deterministic hypothesis, and where the shared data are."""

import os
from pathlib import Path

from hypothesis import settings
import pytest

settings.register_profile('longrecon', deadline=None, derandomize=True, max_examples=60)
settings.load_profile('longrecon')

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of the real clips (variable LONGRECON_DATA); skip without it."""
    folder = Path(os.environ.get('LONGRECON_DATA', REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no clips at {folder}; set LONGRECON_DATA to the folder that holds them')
    return folder
