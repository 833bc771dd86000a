import os

import pytest

from longrecon_ros.atomic import atomic_file, atomic_folder, check_output_folder
from longrecon_ros.errors import InputError


def test_file_appears_whole(tmp_path):
    target = tmp_path / 'a.txt'
    target.write_text('old')
    with atomic_file(target) as stream:
        stream.write(b'new')
        assert target.read_text() == 'old'
    assert target.read_text() == 'new'
    assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('interruption', [ValueError, KeyboardInterrupt])
def test_interrupted_file_leaves_the_old_one(tmp_path, interruption):
    target = tmp_path / 'a.txt'
    target.write_text('old')
    with pytest.raises(interruption):
        with atomic_file(target) as stream:
            stream.write(b'half')
            raise interruption
    assert target.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


def test_files_have_the_usual_rights(tmp_path):
    (tmp_path / 'plain').write_text('')
    with atomic_file(tmp_path / 'atomic'):
        pass
    assert (tmp_path / 'atomic').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_new_folder_appears_at_the_end(tmp_path):
    target = tmp_path / 'deep' / 'out'
    with atomic_folder(target) as staging:
        (staging / 'a').write_text('1')
        assert not target.exists()
    assert (target / 'a').read_text() == '1'
    assert os.listdir(target.parent) == ['out']


@pytest.mark.parametrize('interruption', [ValueError, KeyboardInterrupt])
def test_interrupted_folder_leaves_nothing(tmp_path, interruption):
    with pytest.raises(interruption):
        with atomic_folder(tmp_path / 'out') as staging:
            (staging / 'a').write_text('1')
            raise interruption
    assert os.listdir(tmp_path) == []


def test_force_replaces_results_and_keeps_the_rest(tmp_path):
    (tmp_path / 'mine').write_text('precious')
    (tmp_path / 'result').write_text('old')
    with atomic_folder(tmp_path, force=True) as staging:
        (staging / 'result').write_text('new')
    assert sorted(os.listdir(tmp_path)) == ['mine', 'result']
    assert (tmp_path / 'result').read_text() == 'new'


def test_folder_with_files_is_refused_without_force(tmp_path):
    (tmp_path / 'mine').write_text('')
    with pytest.raises(InputError, match='not empty.*--force'):
        check_output_folder(tmp_path, force=False)


def test_file_as_folder_is_refused(tmp_path):
    (tmp_path / 'mine').write_text('')
    with pytest.raises(InputError, match='is a file'):
        check_output_folder(tmp_path / 'mine', force=True)
    with pytest.raises(InputError, match='cannot be written'):
        check_output_folder(tmp_path / 'mine' / 'below', force=True)
