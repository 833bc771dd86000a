"""`longrecon weights`: what it shows, asks and checks."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

from hub_server import PATIENCE_S, TINY
import pytest
from weights_rig import CLI_FETCH, place, start

from longrecon_ros import backbones
from longrecon_ros.backbones import _weights
from longrecon_ros.cli.main import main


def test_licences_stand_there_before_the_first_request(hub, content):
    hub.gate.clear()
    process = start(*CLI_FETCH)
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
    process = start(*CLI_FETCH[:-1])
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
    path = place(content, is_recorded=False)
    code, out, _ = cli('fetch', 'tiny', '--offline')
    assert (code, out) == (0, f'{path}: is here, without a recorded checksum\n')
    assert hub.asked == []


def test_a_damaged_file_is_fetched_again(hub, content, cli):
    path = place(content)
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
    path = place(content)
    out = cli('list', '--paths')[1]
    assert out.splitlines()[1].split()[-2:] == ['yes', str(path)]


def test_list_as_json(cli, content):
    path = place(content)
    tiny, closed = json.loads(cli('list', '--json')[1])
    assert tiny == {
        'name': 'tiny', 'backbone': 'tinynet', 'repository': 'someone/Tiny',
        'file': 'sub/model.safetensors', 'size_bytes': 12_000_000, 'licence': TINY.licence,
        'code_licence': 'BSD-3-Clause', 'gated': False, 'path': str(path), 'here': True}
    assert (closed['gated'], closed['here']) == (True, False)


def test_list_holds_what_the_backbones_declare_and_needs_no_extras():
    code = ('import sys; sys.modules.update(torch=None, huggingface_hub=None, safetensors=None); '
            'from longrecon_ros.cli.main import main; main(["weights", "list", "--json"])')
    out, err = start('-c', code).communicate(timeout=PATIENCE_S)
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
    path = place(content)
    assert cli('where', 'tiny') == (0, f'{path}\n', '')
