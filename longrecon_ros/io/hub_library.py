"""The library `huggingface_hub`, its errors turned into `WeightsError` and its words into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os

from ..backbones.base import WeightsFile
from ..errors import MissingDependency, WeightsError

_log = logging.getLogger(__name__)


def library():
    """Return `huggingface_hub`; MissingDependency without it."""
    try:
        import huggingface_hub
    except ImportError:
        raise MissingDependency('fetching weights needs the package huggingface_hub: '
                                'pip install huggingface_hub') from None
    return huggingface_hub


def endpoint() -> str | None:
    """Return the address of another hub than the usual one; None when there is none.

    The library reads the variable as well, but only when it is imported.
    """
    return os.environ.get('HF_ENDPOINT', '').rstrip('/') or None


def page_of(file: WeightsFile) -> str:
    """Return the address of a repository's page, where access is asked for."""
    return f'{endpoint() or "https://huggingface.co"}/{file.repository}'


@contextmanager
def hub_errors(file: WeightsFile) -> Iterator[None]:
    """Turn whatever the library raises about a file into `WeightsError`, and shorten its logs."""
    library()
    from huggingface_hub.utils import HfHubHTTPError

    # its first base is the root of the errors of whichever HTTP library stands below
    failures = (HfHubHTTPError.__bases__[0], OSError)
    try:
        with _one_voice():
            yield
    except failures as error:
        raise WeightsError(f'{file.name}, {file.repository}: {_reason(error, file)}') from None


def _reason(error: Exception, file: WeightsFile) -> str:
    from huggingface_hub.utils import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if isinstance(error, GatedRepoError):
        return (f'its authors must grant you access: ask for it at {page_of(file)}, then "hf auth '
                'login" (or set HF_TOKEN) and fetch again')
    if isinstance(error, OfflineModeIsEnabled):
        return 'HF_HUB_OFFLINE is set: unset it and fetch again'
    if status == 404 and not isinstance(error, RepositoryNotFoundError):
        return (f'there is no {file.file} in it (HTTP 404): look at {page_of(file)} for its new '
                'name, and use a file that you download yourself')
    if status in (401, 403, 404):
        return (f'no access (HTTP {status}): it is private or gone, or your token is wrong: look '
                f'at {page_of(file)}, then "hf auth login" (or set HF_TOKEN) and fetch again')
    if status is not None:
        return f'the hub has trouble (HTTP {status}): fetch again later, it goes on'
    return (f'the hub cannot be reached, or the connection was lost ({_one_line(error)}): check '
            'the network, HTTPS_PROXY and HF_ENDPOINT, then fetch again, it goes on')


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


@contextmanager
def _one_voice() -> Iterator[None]:
    """Keep the library from printing beside our log what it logs as well."""
    logger, downloads = (logging.getLogger(name) for name in (
        'huggingface_hub', 'huggingface_hub.file_download'))
    handlers = logger.handlers[:]
    logger.handlers[:] = []
    downloads.addFilter(_in_short)
    try:
        yield
    finally:
        downloads.removeFilter(_in_short)
        logger.handlers[:] = handlers


def _in_short(record: logging.LogRecord) -> bool:
    """Say of a lost connection what matters, where the library takes two lines with an address."""
    if 'Error while downloading' not in record.getMessage():
        return True
    _log.warning('the connection was lost: trying to go on')
    return False
