"""Checkpoints: where they lie, and how they come from a hub that fails in every way it can."""

import dataclasses
import fcntl
import hashlib
import json
import os
from pathlib import Path
import pty
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

from hub_server import catalogue, checkpoint, CLOSED, PATIENCE_S, serve, TINY, TinyBackbone
import pytest

from longrecon_ros import backbones
from longrecon_ros.backbones import _weights
from longrecon_ros.cli.main import main
from longrecon_ros.errors import MissingDependency, WeightsError
from longrecon_ros.io.hub import fetch

SCRIPT = Path(__file__).with_name('hub_server.py')
FETCH = ('-c', 'from hub_server import *; from longrecon_ros.io.hub import fetch; fetch(TINY)')
CLI_FETCH = (str(SCRIPT), 'weights', 'fetch', 'tiny', '--yes')
PIECE = 10 * 1024 * 1024
"""Bytes that the library collects before it writes them."""


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Keep the user's weights, tokens and proxies out of it."""
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_HUB_OFFLINE', 'HF_ENDPOINT',
                 'PYTHONUNBUFFERED'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'LONGRECON_WEIGHTS': tmp_path / 'weights', 'HF_HOME': tmp_path / 'hf',
                        'XDG_CACHE_HOME': tmp_path / 'cache', 'HF_HUB_DISABLE_XET': '1',
                        'HF_HUB_DISABLE_TELEMETRY': '1', 'NO_PROXY': '*',
                        'no_proxy': '*'}.items():
        monkeypatch.setenv(name, str(value))
    for folder in (SCRIPT.parent, SCRIPT.parent.parent):
        monkeypatch.setenv('PYTHONPATH', str(folder), prepend=os.pathsep)


@pytest.fixture(scope='module')
def content():
    """Return the published checkpoint."""
    pytest.importorskip('safetensors', reason='checkpoints need safetensors')
    return checkpoint()


@pytest.fixture
def hub(monkeypatch, content):
    """Serve the checkpoint."""
    pytest.importorskip('huggingface_hub', reason='fetching needs huggingface_hub')
    with serve(content) as hub:
        monkeypatch.setenv('HF_ENDPOINT', hub.url)
        yield hub


@pytest.fixture
def cli(monkeypatch, capsys):
    """Return a function that runs `longrecon weights ...` and returns code, stdout and stderr."""
    monkeypatch.setattr('longrecon_ros.cli.weights.catalogue', catalogue)

    def run(*argv):
        code = main(['weights', *map(str, argv)])
        return code, *capsys.readouterr()
    return run


def _start(*argv, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)


def _place(content: bytes, is_recorded: bool = True) -> Path:
    """Put a file where the checkpoint belongs, as if it had been fetched."""
    path = _weights.path_of(TINY)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if is_recorded:
        record = _weights.Record('tiny', TINY.repository, TINY.file, 'c0ffee', len(content),
                                 hashlib.sha256(content).hexdigest())
        _weights.record_path(path).write_text(record.to_json())
    return path


def _partials() -> list:
    return sorted((_weights.weights_folder() / '.staging').rglob('*.partial'))


def _wait_for_partial(hub) -> None:
    """Wait until the server has stalled and the first piece is on the disk."""
    assert hub.stalled.wait(PATIENCE_S)
    deadline_s = time.monotonic() + PATIENCE_S
    while not (_partials() and _partials()[0].stat().st_size >= PIECE):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


# --- fetching ----------------------------------------------------------------------------------

def test_a_file_is_fetched_and_recorded(hub, content, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    path = fetch(TINY)
    assert path == _weights.weights_folder() / 'tiny' / 'model.safetensors'
    assert path.read_bytes() == content
    assert _weights.read_record(path) == _weights.Record(
        'tiny', 'someone/Tiny', 'sub/model.safetensors', hub.commit, len(content), hub.sha256)
    assert _weights.recorded_sha256(path) == hub.sha256
    assert sorted(os.listdir(path.parent)) == ['model.safetensors', 'model.safetensors.json']
    assert _partials() == []
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
    assert [partial.stat().st_size for partial in _partials()] == [PIECE]
    assert fetch(TINY).read_bytes() == content
    assert hub.downloads[-1] == f'bytes={PIECE}-'


def test_an_interrupted_download_goes_on(hub, content):
    hub.stall_after = PIECE + 1_000_000
    process = _start(*CLI_FETCH)
    _wait_for_partial(hub)
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
    path = _place(old)
    hub.stall_after = PIECE + 1_000_000
    process = _start(*FETCH)
    _wait_for_partial(hub)
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
    path = _place(content)
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
    path = _place(old)
    hub.sent = bytes(len(content))
    with pytest.raises(WeightsError, match='damaged .* was removed: fetch again'):
        fetch(TINY)
    assert path.read_bytes() == old
    assert _weights.verify(path).commit == 'c0ffee'
    assert _partials() == []
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
    assert _partials() == []


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
    process = _start(*CLI_FETCH)
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
    process = _start(*CLI_FETCH, preexec_fn=lambda: resource.setrlimit(
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
    path = _place(b'mine', is_recorded=False)
    with pytest.raises(WeightsError, match='was not fetched: move it away'):
        fetch(TINY)
    assert path.read_bytes() == b'mine'
    assert hub.downloads == []


def test_a_copied_file_is_recorded_without_a_download(hub, content):
    path = _place(content, is_recorded=False)
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
    process = _start('-c', code)
    assert process.communicate(timeout=PATIENCE_S) == ('[]\n', '')


# --- the command line --------------------------------------------------------------------------

def test_licences_stand_there_before_the_first_request(hub, content):
    hub.gate.clear()
    process = _start(*CLI_FETCH)
    head = ''
    while 'goes to' not in head and (line := process.stdout.readline()):
        head += line
    assert hub.asked == []          # else the gate, shut for so long, had opened by itself
    hub.gate.set()
    tail, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, '')
    for words in ('someone/Tiny', 'sub/model.safetensors', '12 MB', TINY.licence,
                  TINY.code_licence):
        assert words in head
    assert f'{_weights.path_of(TINY)}: complete' in tail
    assert len(content) == hub.n_sent


def test_without_a_terminal_yes_is_needed(hub):
    process = _start(*CLI_FETCH[:-1])
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, hub.asked) == (2, [])
    assert TINY.licence in out
    assert 'add --yes if you accept the licences' in err


@pytest.mark.parametrize('answer, code', [('n', 2), ('y', 0)])
def test_a_terminal_is_asked_and_shows_a_bar(hub, answer, code):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, *CLI_FETCH[:-1]], stdin=theirs, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    text = ''
    while '[y/N]' not in text:
        text += os.read(ours, 10_000).decode()
    assert hub.asked == []
    os.write(ours, answer.encode() + b'\n')
    try:
        while piece := os.read(ours, 10_000):
            text += piece.decode()
    except OSError:         # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(PATIENCE_S) == code
    assert bool(hub.n_sent) == ('100%|' in text) == (answer == 'y')
    assert ('nothing was downloaded' in text) == (answer == 'n')


def test_gated_weights_say_so_first(hub, cli, capsys):
    hub.refusal = (403, 'GatedRepo')
    code = main(['weights', 'fetch', 'closed', '--yes'])
    out, err = capsys.readouterr()
    assert code == 2
    assert f'grant access one by one: {hub.url}/someone/Closed' in out
    assert err.startswith('longrecon: error: closed, someone/Closed: its authors must grant')
    assert err.count('\n') == 1


def test_offline_uses_no_network(hub, content, cli):
    code, _, err = cli('fetch', 'tiny', '--offline', '--yes')
    assert code == 2
    assert '--offline forbids downloading: "longrecon weights fetch tiny" without it' in err
    path = _place(content, is_recorded=False)
    code, out, _ = cli('fetch', 'tiny', '--offline')
    assert (code, out) == (0, f'{path}: is here, without a recorded checksum\n')
    assert hub.asked == []


def test_a_damaged_file_is_fetched_again(hub, content, cli):
    path = _place(content)
    path.write_bytes(content[:-1] + b'x')
    code, _, err = cli('fetch', 'tiny', '--yes')
    assert code == 0
    assert 'damaged, its checksum is not the recorded one' in err
    assert path.read_bytes() == content


def test_another_folder_can_be_chosen(hub, content, cli, tmp_path):
    assert cli('fetch', 'tiny', '--yes', '--dir', tmp_path / 'other')[0] == 0
    assert (tmp_path / 'other/tiny/model.safetensors').read_bytes() == content
    assert cli('where', 'tiny', '--dir', tmp_path / 'other')[0] == 0
    assert cli('where', 'tiny')[0] == 2


def test_names_that_are_wrong_get_a_suggestion(cli):
    code, out, err = cli('fetch', 'tinny')
    assert (code, out) == (2, '')
    assert 'no checkpoint "tinny"; did you mean "tiny"?' in err
    assert 'choose one of: tiny, closed' in cli('where', 'xyzzy')[2]
    assert 'did you mean "tiny"?' in cli('check', 'tinny')[2]
    assert 'see "longrecon weights' in cli('fetsh')[2]


def test_list_as_a_table(cli, content):
    code, out, _ = cli('list')
    assert code == 0
    header, tiny, closed, *notes = out.splitlines()
    assert any(note.startswith('loger: ') and 'no' in note for note in notes)
    assert header.split()[:4] == ['name', 'repository', 'file', 'size']
    assert tiny.split()[:4] == ['tiny', 'someone/Tiny', 'sub/model.safetensors', '12']
    assert tiny.endswith('no    no')
    assert closed.endswith('yes    no')
    path = _place(content)
    out = cli('list', '--paths')[1]
    assert out.splitlines()[1].split()[-2:] == ['yes', str(path)]


def test_list_as_json(cli, content):
    path = _place(content)
    tiny, closed = json.loads(cli('list', '--json')[1])
    assert tiny == {
        'name': 'tiny', 'backbone': 'tinynet', 'repository': 'someone/Tiny',
        'file': 'sub/model.safetensors', 'size_bytes': 12_000_000, 'licence': TINY.licence,
        'code_licence': 'BSD-3-Clause', 'gated': False, 'path': str(path), 'here': True}
    assert (closed['gated'], closed['here']) == (True, False)


def test_list_holds_what_the_backbones_declare_and_needs_no_extras():
    code = ('import sys; sys.modules.update(torch=None, huggingface_hub=None, safetensors=None); '
            'from longrecon_ros.cli.main import main; main(["weights", "list", "--json"])')
    out, err = _start('-c', code).communicate(timeout=PATIENCE_S)
    assert err == ''
    listed = [(entry['backbone'], entry['name']) for entry in json.loads(out)]
    specs = [backbones.load(name).spec for name in backbones.available()]
    assert listed == [(spec.name, file.name) for spec in specs for file in spec.weights]
    assert ('pi3', 'pi3') in listed
    names = [name for _, name in listed]
    assert len(set(names)) == len(names)


def test_where(cli, content, tmp_path):
    assert cli('where') == (0, f'{tmp_path / "weights"}\n', '')
    code, out, err = cli('where', 'tiny')
    assert (code, out) == (2, '')
    assert f'{tmp_path}/weights/tiny/model.safetensors: the weights are not there' in err
    assert ('"longrecon weights fetch tiny" brings them (12 MB from someone/Tiny; licence '
            'CC BY-NC 4.0') in err
    path = _place(content)
    assert cli('where', 'tiny') == (0, f'{path}\n', '')


# --- checking ----------------------------------------------------------------------------------

def test_check_of_a_fine_file(cli, content):
    _place(content)
    code, out, _ = cli('check', 'tiny')
    assert code == 0
    assert 'SHA-256 as recorded: sub/model.safetensors of someone/Tiny, commit c0ffee' in out
    assert 'all of tinynet, and none besides' in out
    _weights.record_path(_weights.path_of(TINY)).unlink()
    assert 'none recorded' in cli('check', 'tiny')[1]


@pytest.mark.parametrize('change, words', [
    (lambda content: content[:-7], 'damaged or cut short, 12000129 bytes instead of 12000136'),
    (lambda content: content[:-7] + b'strange', 'damaged, its checksum is not the recorded one')])
def test_check_of_a_damaged_file(cli, content, change, words):
    path = _place(content)
    path.write_bytes(change(content))
    code, out, err = cli('check', 'tiny')
    assert (code, out) == (2, '')
    assert f'{path}: {words}: "longrecon weights fetch tiny" brings it again' in err


def test_check_of_a_foreign_file(cli, content, tmp_path, monkeypatch):
    from safetensors.numpy import load, save
    tensors = load(content)
    path = tmp_path / 'mine.safetensors'
    path.write_bytes(save({'a': tensors['a'], 'c': tensors['a']}))
    code, out, err = cli('check', path)
    assert (code, out) == (2, '')
    assert 'say which backbone the file is for: --backbone NAME' in err
    assert 'sfn' in cli('check', path, '--backbone', 'sfn')[2]
    assert 'backbone sfm has no weights' in cli('check', path, '--backbone', 'sfm')[2]
    monkeypatch.setattr(backbones, 'load', lambda name: TinyBackbone)
    assert "not the tensors a, b of tinynet: ['a', 'c']" in cli(
        'check', path, '--backbone', 'tinynet')[2]
    path.write_bytes(content)
    assert cli('check', path, '--backbone', 'tinynet')[0] == 0


@pytest.mark.torch
def test_check_with_a_real_backbone(capsys, content, tmp_path):
    path = tmp_path / 'mine.safetensors'
    path.write_bytes(content)
    assert main(['weights', 'check', str(path), '--backbone', 'pi3']) == 2
    assert f'{path}: not the weights of pi3' in capsys.readouterr().err


# --- where they lie ----------------------------------------------------------------------------

def test_the_folder(monkeypatch, tmp_path):
    assert _weights.weights_folder() == tmp_path / 'weights'
    monkeypatch.setenv('HOME', '/home/x')
    monkeypatch.setenv('LONGRECON_WEIGHTS', '~/w')
    assert _weights.weights_folder() == Path('/home/x/w')
    monkeypatch.delenv('LONGRECON_WEIGHTS')
    assert _weights.weights_folder() == tmp_path / 'cache' / 'longrecon' / 'weights'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert _weights.weights_folder() == Path('/home/x/.cache/longrecon/weights')


def test_locate(tmp_path, monkeypatch):
    spec = TinyBackbone.spec
    closed = tmp_path / 'weights' / 'closed' / 'model.pt'
    closed.parent.mkdir(parents=True)
    closed.write_bytes(b'1')
    assert _weights.locate(spec, 'closed') == (closed, CLOSED)
    with pytest.raises(WeightsError, match='"longrecon weights fetch tiny" brings'):
        _weights.locate(spec, '')
    assert _weights.locate(spec, str(closed)) == (closed, None)
    monkeypatch.setenv('HOME', str(closed.parent))
    assert _weights.locate(spec, '~/model.pt') == (closed, None)
    shutil.move(closed.parent, tmp_path / 'o')
    with pytest.raises(WeightsError, match="fetch closed --dir 'a b'. .* someone/Closed, gated;"):
        _weights.locate(spec, 'closed', Path('a b'))


@pytest.mark.parametrize('choice, words', [
    ('closd', 'closd: there is no such file of weights; did you mean "closed"?'),
    ('x/y.pt', 'x/y.pt: there is no such file of weights: check the path, or choose one of: tiny'),
    ('.', 'this is a folder: name the file')])
def test_locate_says_what_is_wrong(choice, words):
    with pytest.raises(WeightsError) as caught:
        _weights.locate(TinyBackbone.spec, choice)
    assert words in str(caught.value)


def test_a_backbone_without_weights_has_no_usual_file():
    with pytest.raises(WeightsError, match=r'sfm\.weights: none are published; name a file'):
        _weights.locate(backbones.load('sfm').spec, '')
    with pytest.raises(WeightsError, match='neither code nor weights a licence.*; name a file'):
        _weights.locate(backbones.load('loger').spec, '')


@pytest.mark.parametrize('text', ['', '[1]', '{"commit": "1"}', '{'])
def test_an_unreadable_record_is_none(text):
    path = _place(b'1')
    _weights.record_path(path).write_text(text)
    assert _weights.read_record(path) is None
    assert _weights.recorded_sha256(path) is None


@pytest.mark.parametrize('n_bytes, text', [
    (0, '0 bytes'), (999, '999 bytes'), (1000, '1 kB'), (3_834_787_440, '3.83 GB'),
    (12_345_678, '12.3 MB')])
def test_sizes_are_told_in_decimal_units(n_bytes, text):
    assert _weights.size_text(n_bytes) == text
