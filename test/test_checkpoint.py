"""Weights from files: the right ones load, all others are refused in words, nothing is touched."""

from functools import partial
import os
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')
save_file = pytest.importorskip('safetensors.torch').save_file

from longrecon_ros.backbones import _checkpoint  # noqa: E402
from longrecon_ros.backbones._network_config import Definition  # noqa: E402
from longrecon_ros.errors import WeightsError  # noqa: E402
from longrecon_ros.nets import pi3, policy, vggt  # noqa: E402

PI3 = Definition(partial(pi3.Pi3Net, pi3.TINY), pi3.Pi3Output, ('spare.*',))
VGGT = Definition(partial(vggt.VggtNet, vggt.TINY), vggt.VggtOutput)
CPU = policy.choose('cpu')
IMAGES = torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.torch


def net_of(definition, seed=3):
    return policy.fill_randomly(_checkpoint.without_memory(definition.make), CPU, seed)


def state(definition=PI3):
    return {key: value.clone() for key, value in net_of(definition).state_dict().items()}


def written(path: Path, tensors) -> Path:
    save_file(tensors, path) if path.suffix == '.safetensors' else torch.save(tensors, path)
    return path


def refused(path, definition=PI3) -> str:
    """Return the words with which a file is refused, by loading and by checking alike."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(WeightsError) as loading:
        _checkpoint.load(definition, path, CPU, 'pi3')
    with pytest.raises(WeightsError) as checking:
        _checkpoint.check(definition, path, 'pi3')
    assert str(loading.value) == str(checking.value) and str(path) in str(loading.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    return str(loading.value)


@pytest.mark.parametrize('definition', [PI3, VGGT], ids=['pi3', 'vggt'])
@pytest.mark.parametrize('name', ['model.safetensors', 'model.pt'])
def test_a_checkpoint_gives_the_net_that_was_saved(tmp_path, name, definition):
    path = written(tmp_path / name, state(definition))
    _checkpoint.check(definition, path, 'pi3')
    net = _checkpoint.load(definition, path, CPU, 'pi3')
    with torch.inference_mode():
        for a, b in zip(net(IMAGES), net_of(definition)(IMAGES)):
            assert (a is None and b is None) or torch.equal(a, b)
    assert not any(p.requires_grad or p.is_meta for p in net.parameters())
    path.unlink()       # nothing is read from the file any more
    with torch.inference_mode():
        net(IMAGES)


@pytest.mark.parametrize('wrapper', ['model', 'state_dict'])
def test_what_training_code_wraps_is_found(tmp_path, wrapper):
    path = written(tmp_path / 'last.pt', {wrapper: state(), 'epoch': 7})
    _checkpoint.load(PI3, path, CPU, 'pi3')


def test_names_of_training_on_several_devices_are_understood(tmp_path):
    path = written(tmp_path / 'last.pt', {f'module.{key}': value
                                          for key, value in state().items()})
    _checkpoint.load(PI3, path, CPU, 'pi3')


def test_weights_are_converted_one_by_one(tmp_path):
    path = written(tmp_path / 'model.safetensors', state())
    short = policy.choose('cpu', 'bfloat16')
    net = _checkpoint.load(PI3, path, short, 'pi3')
    types = policy.dtypes(net, short)
    assert {key: p.dtype for key, p in net.named_parameters()} == types
    assert torch.bfloat16 in types.values() and torch.float32 in types.values()
    assert all(b.dtype == torch.float32 for b in net.buffers())


def test_tensors_for_parts_that_are_not_built_are_passed_over(tmp_path):
    path = written(tmp_path / 'model.safetensors', {**state(), 'spare.weight': torch.ones(3)})
    _checkpoint.check(PI3, path, 'pi3')
    assert '1 unexpected (spare.weight)' in refused(path, Definition(PI3.make, PI3.output))


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pt'])
def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path, name):
    tensors = state()
    del tensors['encoder.norm.weight'], tensors['encoder.norm.bias']
    tensors |= {f'extra.{i}': torch.ones(1) for i in range(5)}
    tensors['conf_head.proj.bias'] = torch.ones(7)
    said = refused(written(tmp_path / name, tensors))
    assert '2 missing (encoder.norm.weight, encoder.norm.bias)' in said
    assert '5 unexpected (extra.0, extra.1, extra.2 ...)' in said
    assert '1 of another shape (conf_head.proj.bias (7,), not (196,))' in said
    assert '"longrecon weights fetch pi3"' in said


def test_the_weights_of_another_net_are_refused(tmp_path):
    said = refused(written(tmp_path / 'model.safetensors', state(VGGT)))
    assert 'not the weights of pi3' in said and 'missing (register_token' in said


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pt'])
@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = written(tmp_path / name, state())
    os.truncate(path, int(share * path.stat().st_size))
    said = refused(path)
    assert 'damaged or cut off' in said and 'fetch it again' in said


def test_other_files_are_refused(tmp_path):
    assert 'there is no such file' in refused(tmp_path / 'nothing.safetensors')
    page = tmp_path / 'page.safetensors'
    page.write_text('<html>404</html>' * 100)
    assert 'damaged' in refused(page)
    assert 'no checkpoint' in refused(written(tmp_path / 'list.pt', [torch.ones(2)]))
    assert 'no checkpoint' in refused(written(tmp_path / 'numbers.pt', {'a': 1}))
    text = tmp_path / 'default.yaml'
    text.write_text('backbone: pi3')
    assert 'no checkpoint' in refused(text)


class Malice:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path):
        self._mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self._mark),)


def test_code_in_a_file_is_not_run(tmp_path):
    mark = tmp_path / 'was_here'
    path = written(tmp_path / 'evil.pt', {**state(), 'x': Malice(mark)})
    said = refused(path)
    assert not mark.exists()
    assert 'could run code' in said and 'convert it to .safetensors' in said
