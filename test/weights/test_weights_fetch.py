"""Checkpoints come from a hub that fails in every way it can."""

import dataclasses
import fcntl
import hashlib
import os
import resource
import signal
import sys

from hub_server import checkpoint, PATIENCE_S, TINY
import pytest
from weights_rig import CLI_FETCH, FETCH, partials, PIECE, place, start, wait_for_partial

from longrecon_ros.backbones import _weights
from longrecon_ros.errors import MissingDependency, WeightsError
from longrecon_ros.io.hub import fetch


def test_a_file_is_fetched_and_recorded(hub, content, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    path = fetch(TINY)
    assert path == _weights.weights_folder() / 'tiny' / 'model.safetensors'
    assert path.read_bytes() == content
    assert _weights.read_record(path) == _weights.Record(
        'tiny', 'someone/Tiny', 'sub/model.safetensors', hub.commit, len(content), hub.sha256)
    assert _weights.read_record(path).sha256 == hub.sha256
    assert sorted(os.listdir(path.parent)) == ['model.safetensors', 'model.safetensors.json']
    assert partials() == []
    tokens = {path.startswith('/store/'): token for _, path, _, token in hub.asked}
    assert tokens == {False: 'Bearer hf_secret', True: None}


def test_what_is_there_is_not_downloaded_again(hub, content, cli):
    assert cli('fetch', 'tiny', '--yes')[0] == 0
    n_asked, n_sent = len(hub.asked), hub.n_sent
    assert n_sent == len(content)
    code, out, _ = cli('fetch', 'tiny')
    assert (code, len(hub.asked)) == (0, n_asked)
    assert 'is here, with the checksum that was recorded' in out
    fetch(TINY)
    assert len(hub.asked) > n_asked
    assert hub.n_sent == n_sent


def test_a_dropped_connection_is_gone_on_with(hub, content, caplog):
    hub.drop_after = [PIECE + 1_000_000]
    try:
        path = fetch(TINY)
    except WeightsError:            # some versions of the library do not try again themselves
        path = fetch(TINY)
    assert path.read_bytes() == content
    assert hub.downloads == [None, f'bytes={PIECE}-']
    assert 'Error while downloading' not in caplog.text


def test_a_download_that_fails_goes_on_at_the_next_call(hub, content):
    hub.drop_after = [PIECE + 1_000_000]
    hub.refusal_after_drop = (503, '')
    with pytest.raises(WeightsError, match='HTTP 503|connection was lost'):
        fetch(TINY)
    hub.refusal_at_store = None
    assert [partial.stat().st_size for partial in partials()] == [PIECE]
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads[-1] == f'bytes={PIECE}-'


def test_an_interrupted_download_goes_on(hub, content):
    hub.stall_after = PIECE + 1_000_000
    process = start(*CLI_FETCH)
    wait_for_partial(hub)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert 'what was downloaded is kept' in err
    assert err.endswith('longrecon: interrupted\n')
    assert not _weights.path_of(TINY).exists()
    hub.stall_after = None
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads == [None, f'bytes={PIECE}-']


def test_a_killed_download_leaves_the_old_file(hub, content):
    old = checkpoint(seed=1)
    path = place(old)
    hub.stall_after = PIECE + 1_000_000
    process = start(*FETCH)
    wait_for_partial(hub)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert path.read_bytes() == old
    assert _weights.verify(path).commit == 'c0ffee'
    hub.stall_after = None
    fetch(TINY)
    assert path.read_bytes() == content
    assert _weights.verify(path).commit == hub.commit
    assert hub.downloads == [None, f'bytes={PIECE}-']


def test_a_fetch_that_ended_before_the_last_step_is_completed(hub, content):
    path = place(content)
    path.write_bytes(b'old')
    partial = _weights.weights_folder() / '.staging' / 'tiny' / f'{hub.sha256}.partial'
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content)
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads == []


def test_progress_is_logged_where_there_is_no_terminal(hub, monkeypatch, caplog):
    monkeypatch.setattr('longrecon_ros.io.byte_progress._LINE_EVERY_S', 0.0)
    with caplog.at_level('INFO', 'longrecon_ros'):
        fetch(TINY)
    assert 'tiny: 10.5 MB of 12 MB, ' in caplog.text
    assert 'checking tiny: 12 MB of 12 MB, ' in caplog.text


def test_wrong_bytes_are_refused_and_not_kept(hub, content):
    old = checkpoint(seed=1)
    path = place(old)
    hub.sent = bytes(len(content))
    with pytest.raises(WeightsError, match='damaged .* was removed: fetch again'):
        fetch(TINY)
    assert path.read_bytes() == old
    assert _weights.verify(path).commit == 'c0ffee'
    assert partials() == []
    hub.sent = None
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads == [None, None]


def test_a_shorter_file_than_stated_is_refused(hub, content):
    hub.sent = content[:-100]
    with pytest.raises(WeightsError, match='someone/Tiny'):
        fetch(TINY)
    assert not _weights.path_of(TINY).exists()


@pytest.mark.parametrize('is_current, more, downloads', [
    (False, b'', [None]),           # of another commit: not gone on with
    (True, b'more', [None]),        # too long: begun anew
    (True, b'', [])])               # complete: only checked
def test_a_partial_file_is_used_if_it_fits(hub, content, is_current, more, downloads):
    sha256 = hub.sha256 if is_current else hashlib.sha256(b'other').hexdigest()
    partial = _weights.weights_folder() / '.staging' / 'tiny' / f'{sha256}.partial'
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content + more)
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads == downloads
    assert partials() == []


@pytest.mark.parametrize('place', ['refusal', 'refusal_at_store'])
@pytest.mark.parametrize('refusal, words', [
    ((403, 'GatedRepo'), 'grant you access: ask for it at {url}/someone/Tiny, then "hf auth'),
    ((401, 'RepoNotFound'), 'no access .HTTP 401.: it is private or gone, or your token'),
    ((404, 'RepoNotFound'), 'no access .HTTP 404.: it is private or gone'),
    ((403, ''), 'no access .HTTP 403.'),
    ((404, 'EntryNotFound'), 'there is no sub/model.safetensors in it .HTTP 404.'),
    ((500, ''), 'has trouble .HTTP 500.: fetch again later'),
])
def test_refusals_say_what_to_do(hub, place, refusal, words):
    setattr(hub, place, refusal)
    with pytest.raises(WeightsError, match=words.format(url=hub.url)) as caught:
        fetch(TINY)
    assert 'secret' not in str(caught.value)
    assert hub.n_sent == 0


def test_a_file_that_the_repository_lacks(hub):
    with pytest.raises(WeightsError, match='no other.bin in it .HTTP 404.: look at'):
        fetch(dataclasses.replace(TINY, file='other.bin'))


@pytest.mark.parametrize('address', ['http://127.0.0.1:9', 'nonsense'])
def test_no_network_is_told(hub, monkeypatch, address):
    monkeypatch.setenv('HF_ENDPOINT', address)
    with pytest.raises(WeightsError, match='cannot be reached.* HTTPS_PROXY and HF_ENDPOINT'):
        fetch(TINY)


def test_the_librarys_own_offline_switch_is_told(hub, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    process = start(*CLI_FETCH)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, hub.asked) == (2, [])
    assert err.endswith('HF_HUB_OFFLINE is set: unset it and fetch again\n')
    assert err.count('\n') == 1


def test_a_server_that_is_no_hub_is_told(hub):
    hub.is_hub = False
    with pytest.raises(WeightsError, match='does HF_ENDPOINT point to a hub'):
        fetch(TINY)


def test_too_little_space_is_told_before_the_download(hub):
    hub.size = 10**18
    with pytest.raises(WeightsError, match='GB are needed and .* are free: make room'):
        fetch(TINY)
    assert hub.downloads == []


def test_a_disk_that_fills_up_is_told(hub):
    process = start(*CLI_FETCH, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (PIECE // 2, PIECE // 2)))
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert 'cannot be written (File too large): make room' in err
    assert err.count('\n') == 1


def test_a_folder_that_cannot_be_made_is_told(hub, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(WeightsError, match='cannot be written .* another folder with --dir'):
        fetch(TINY, tmp_path / 'file' / 'weights')


def test_a_file_of_the_users_is_not_replaced(hub):
    path = place(b'mine', is_recorded=False)
    with pytest.raises(WeightsError, match='was not fetched: move it away'):
        fetch(TINY)
    assert path.read_bytes() == b'mine'
    assert hub.downloads == []


def test_a_copied_file_is_recorded_without_a_download(hub, content):
    path = place(content, is_recorded=False)
    assert fetch(TINY) == path
    assert _weights.verify(path).commit == hub.commit
    assert hub.downloads == []


def test_two_fetches_at_once_do_not_mix(hub):
    staging = _weights.weights_folder() / '.staging' / 'tiny'
    staging.mkdir(parents=True)
    with (staging / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match='being fetched by another process'):
            fetch(TINY)
    fetch(TINY)


def test_the_library_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(MissingDependency, match='pip install huggingface_hub'):
        fetch(TINY)


def test_imports_bring_no_library_and_set_nothing():
    code = ('import os, sys; before = dict(os.environ); import longrecon_ros.cli.weights; '
            'assert os.environ == before; '
            'print(sorted(set(sys.modules) & {"huggingface_hub", "torch", "tqdm", "logging.config"'
            '}))')
    process = start('-c', code)
    assert process.communicate(timeout=PATIENCE_S) == ('[]\n', '')
