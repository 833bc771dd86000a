"""Where checkpoints lie, what is recorded of them, and how they are checked."""

from pathlib import Path
import shutil

from hub_server import CLOSED, TINY, TinyBackbone
import pytest
from weights_rig import place

from longrecon_ros import backbones
from longrecon_ros.backbones import _weights
from longrecon_ros.cli.main import main
from longrecon_ros.errors import WeightsError


def test_check_of_a_fine_file(cli, content):
    place(content)
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
    path = place(content)
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
    path = place(b'1')
    _weights.record_path(path).write_text(text)
    assert _weights.read_record(path) is None


@pytest.mark.parametrize('n_bytes, text', [
    (0, '0 bytes'), (999, '999 bytes'), (1000, '1 kB'), (3_834_787_440, '3.83 GB'),
    (12_345_678, '12.3 MB')])
def test_sizes_are_told_in_decimal_units(n_bytes, text):
    assert _weights.size_text(n_bytes) == text
