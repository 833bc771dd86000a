"""The verb `longrecon synth`."""

from longrecon_ros.cli.main import main
from longrecon_ros.io.bag import BagSource
from longrecon_ros.io.folder import FolderSource

SMALL = ['--frames', '2', '--size', '64x48', '--fps', '10', '--scene', 'eight']


def test_folder_and_bag_hold_the_same_film(tmp_path, capsys):
    assert main(['synth', str(tmp_path / 'folder'), *SMALL, '--noise', '2']) == 0
    assert main(['synth', str(tmp_path / 'bag'), *SMALL, '--noise', '2', '--format', 'bag',
                 '--storage', 'sqlite3', '--images', 'png', '--truth-tf']) == 0
    for one, two in zip(FolderSource(tmp_path / 'folder'), BagSource(tmp_path / 'bag')):
        assert one.stamp_ns == two.stamp_ns
        assert (one.image == two.image).all()
    assert '2 images, 0.1 s' in capsys.readouterr().out


def test_bad_requests_are_one_line_and_leave_nothing(tmp_path, capsys):
    out = tmp_path / 'out'
    for bad, word in ((['--size', '640'], 'WIDTHxHEIGHT'), (['--noise', 'nan'], '--noise'),
                      (['--frames', '0'], 'frames'), (['--scene', 'moon'], 'moon'),
                      (['--speed', '-1'], 'speed'), (['--fov', '200'], 'field of view'),
                      (['--distortion', '1'], 'distortion')):
        assert main(['synth', str(out), *SMALL, *bad]) == 2
        error = capsys.readouterr().err
        assert word in error and error.count('\n') == 1
        assert not out.exists()


def test_a_used_folder_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / 'file.txt').touch()
    assert main(['synth', str(tmp_path)]) == 2
    assert 'not empty' in capsys.readouterr().err
