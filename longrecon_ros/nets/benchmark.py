"""Measures nets with random weights: time, memory, and the share of what the machine can do.

The measure of the machine is a product of large matrices in the type of the net's large matrices,
taken in the same run. Windows are timed as they follow each other on a stream: the tokens of the
overlap are those of the window before, so that N - O frames are encoded and N decoded. Images lie
on the device, results stay there, and nothing waits for the device while it is timed.

What is for CUDA alone: `timed`, `peak_bytes`, `forget_peaks`, `synchronisation`.
"""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
import gc
from pathlib import Path
import signal
import statistics
import threading
import time
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn, Tensor

from . import flops
from .pi3 import LARGE as PI3_LARGE, Pi3Net, TINY as PI3_TINY
from .pi3x import Pi3XNet
from .policy import dtypes, fill_randomly, Policy
from .recording import record
from .runtime import TorchRuntime
from .vggt import LARGE as VGGT_LARGE, TINY as VGGT_TINY, VggtNet

EAGER, GRAPH = 'eager', 'graph'
COMPILED = MappingProxyType({'compile': 'default', 'reduce-overhead': 'reduce-overhead',
                             'max-autotune': 'max-autotune-no-cudagraphs'})
"""Mode to what `torch.compile` calls it; reduce-overhead records CUDA graphs, too."""
MODES = (EAGER, GRAPH, *COMPILED)

FAILURES = (RuntimeError, AssertionError, ImportError, OSError)
"""What torch, its compiler and CUDA raise; `TimeoutError` is an OSError. A row tells them."""

_QUICK_LIMIT_S, _COMPILE_LIMIT_S = 90.0, 200.0          # of a case
_QUICK_LEAST_S, _COMPILE_LEAST_S = 5.0, 45.0            # with less left a case is not begun
_SPEND_MS, _MOST = 2000.0, 30               # timed calls: as many as fit, and no more than these
_PRODUCT_SPEND_MS, _SLOW_PRODUCT_MS = 300.0, 100.0      # a size; none larger after a slow one
_MOST_LETTERS = 300                         # of a reason
_PRODUCTS = MappingProxyType({'cuda': (4096, 8192, 16384), 'cpu': (512, 1024, 2048, 4096)})


@dataclass(frozen=True)
class Kind:
    """What is to be known of a net to measure it."""

    make: Callable[..., nn.Module]
    sizes: Tuple[Any, Any]                  # as released, and tiny
    cost: Callable[..., flops.Cost]

    def size(self, use_tiny: bool):
        """Return widths and depths."""
        return self.sizes[use_tiny]


NETS: Mapping[str, Kind] = MappingProxyType({
    'pi3': Kind(Pi3Net, (PI3_LARGE, PI3_TINY), flops.pi3),
    'pi3x': Kind(Pi3XNet, (PI3_LARGE, PI3_TINY), flops.pi3x),
    'vggt': Kind(VggtNet, (VGGT_LARGE, VGGT_TINY), flops.vggt)})


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    net: str
    shape: Tuple[int, int]                  # (H, W), px
    window: int                             # N frames
    overlap: int                            # O of them shared with the window before
    mode: str

    @property
    def n_new(self) -> int:
        """Frames of a window that the one before did not have."""
        return self.window - self.overlap

    def cost(self, use_tiny: bool) -> flops.Cost:
        """Return the FLOP of a window."""
        kind = NETS[self.net]
        return kind.cost(self.shape, self.window, kind.size(use_tiny))


@dataclass(frozen=True)
class Measured:
    """What was found. Bytes are of `peak_bytes`; what does not apply is None."""

    ms_window: float                        # median
    ms_window_all_encoded: Optional[float]  # the same where no tokens are used again; eager only
    n_timed: int
    first_window_s: float                   # compiling or recording included
    peak_bytes: Optional[int]
    reserved_bytes: Optional[int]
    synchronisation: Optional[str]          # 'none', or what waits for the device; eager on CUDA


@dataclass(frozen=True)
class Row:
    """A case with what was found, or why nothing was."""

    case: Case
    measured: Optional[Measured]
    reason: str = ''
    is_tried: bool = True


class Windows:
    """Windows that follow each other; each call is one, and works in the same places."""

    def __init__(self, runtime: TorchRuntime, images: Tensor, kept: Tensor):
        self._runtime, self._images, self._kept = runtime, images, kept

    @torch.inference_mode()
    def __call__(self):
        """Encode the new frames, decode all, and keep the tokens of the last ones."""
        new = self._runtime.encode(self._images)
        tokens = torch.cat([self._kept, new])
        self._kept.copy_(tokens[len(new):])
        return self._runtime.decode(tokens, tuple(self._images.shape[1:3]))

    def all_encoded(self) -> 'Windows':
        """Return windows of as many frames of which all are encoded."""
        again = self._images[:1].expand(len(self._kept), -1, -1, -1)
        return Windows(self._runtime, torch.cat([again, self._images]), self._kept[:0])


def cases(nets: Sequence[str], shapes: Sequence[Tuple[int, int]],
          windows: Sequence[Tuple[int, int]], modes: Sequence[str]) -> List[Case]:
    """Return all combinations: first what is quick, then what has to be compiled."""
    quick = [mode for mode in modes if mode not in COMPILED]
    slow = [mode for mode in modes if mode in COMPILED]
    places = [(net, shape, *window) for net in nets for shape in shapes for window in windows]
    return ([Case(*place, mode) for mode in quick for place in places]
            + [Case(*place, mode) for place in places for mode in slow])


def bench(todo: Sequence[Case], policy: Policy, use_tiny: bool, budget_s: float) -> Iterator[Row]:
    """Yield a row for each case; those that the budget leaves no time for are not tried."""
    end_s = time.monotonic() + budget_s
    for case in todo:
        left_s = end_s - time.monotonic()
        least_s, limit_s = _QUICK_LEAST_S, _QUICK_LIMIT_S
        if case.mode in COMPILED:
            least_s, limit_s = _COMPILE_LEAST_S, _COMPILE_LIMIT_S
        elif policy.device.type != 'cuda':
            limit_s = left_s                # a large net takes a minute a window
        if left_s < least_s:
            yield Row(case, None, f'the budget of {budget_s:.0f} s was spent', is_tried=False)
            continue
        try:
            with time_limit(min(left_s, limit_s)), _on(policy.device):
                row = Row(case, measure(case, policy, use_tiny))
        except FAILURES as error:
            row = Row(case, None, _words(error))
        yield row


def weights(net: str, policy: Policy, use_tiny: bool) -> Tuple[int, int]:
    """Return the number of parameters of a net, and their bytes under a policy."""
    built = _built(net, use_tiny)
    types = dtypes(built, policy)
    return (sum(p.numel() for p in built.parameters()),
            sum(p.numel() * types[name].itemsize for name, p in built.named_parameters()))


def make_windows(case: Case, policy: Policy, use_tiny: bool) -> Windows:
    """Return the windows of a net with random weights, on the device, in the mode of a case."""
    net = fill_randomly(_built(case.net, use_tiny), policy)
    eager = TorchRuntime(net, policy)
    generator = torch.Generator(policy.device).manual_seed(1)
    images = torch.randint(0, 256, (case.window, *case.shape, 3), dtype=torch.uint8,
                           device=policy.device, generator=generator)
    # an encoder wants at least one frame
    kept = eager.encode(images[:max(1, case.overlap)])[:case.overlap].clone()
    runtime = (TorchRuntime(net, policy, COMPILED[case.mode]) if case.mode in COMPILED
               else eager)
    return Windows(runtime, images[case.overlap:], kept)


def measure(case: Case, policy: Policy, use_tiny: bool) -> Measured:
    """Measure a case; raises one of `FAILURES` where the mode or the memory does not do."""
    device = policy.device
    _clean_up(device)
    if case.mode in COMPILED:
        torch.compiler.reset()
    if case.mode == GRAPH and device.type != 'cuda':
        raise RuntimeError('CUDA graphs need a CUDA device')
    window = make_windows(case, policy, use_tiny)
    forget_peaks(device)
    start_s = time.perf_counter()
    run = record(window, device) if case.mode == GRAPH else window
    timed(run, 1, device)
    first_s = time.perf_counter() - start_s
    spent_ms = repeated(run, device)
    peak, reserved = peak_bytes(device)
    waits = all_encoded_ms = None
    if case.mode == EAGER:
        waits = synchronisation(window, device)
        all_encoded_ms = statistics.median(repeated(window.all_encoded(), device))
    return Measured(statistics.median(spent_ms), all_encoded_ms, len(spent_ms), first_s, peak,
                    reserved, waits)


def matmul_rate(policy: Policy) -> float:
    """Return the FLOP/s of the fastest product of large square matrices, best of several."""
    best = 0.0
    _clean_up(policy.device)
    with _on(policy.device):
        for n in _PRODUCTS[policy.device.type]:
            a, b = (torch.randn(n, n, device=policy.device).to(policy.dtype) for _ in range(2))
            out = torch.empty_like(a)
            fastest_ms = min(repeated(lambda a=a, b=b, out=out: torch.mm(a, b, out=out),
                                      policy.device, _PRODUCT_SPEND_MS))
            best = max(best, 2 * n**3 / (1e-3 * fastest_ms))
            if fastest_ms > _SLOW_PRODUCT_MS:
                break
    return best


def repeated(call: Callable[[], Any], device: torch.device,
             spend_ms: float = _SPEND_MS) -> List[float]:
    """Return the times of as many calls as fit, ms, after one or two to warm up."""
    first_ms, = timed(call, 1, device)
    if first_ms > spend_ms:
        return [first_ms]
    second_ms, = timed(call, 1, device)
    return timed(call, int(min(max(spend_ms / max(second_ms, 1e-3), 3), _MOST)), device)


def timed(call: Callable[[], Any], n: int, device: torch.device) -> List[float]:
    """Return the times of n calls, ms; on CUDA those of the device, which is waited for last."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        torch.cuda.synchronize(device)
        return [start.elapsed_time(end) for start, end in zip(marks, marks[1:])]
    marks_s = [time.perf_counter()]
    for _ in range(n):
        call()
        marks_s.append(time.perf_counter())
    return [1e3 * (end - start) for start, end in zip(marks_s, marks_s[1:])]


def forget_peaks(device: torch.device) -> None:
    """Let `peak_bytes` begin anew, where the system allows it."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    elif Path('/proc/self/clear_refs').exists():
        try:
            Path('/proc/self/clear_refs').write_text('5')
        except OSError:
            return                          # then the peak is that of all cases so far


def peak_bytes(device: torch.device) -> Tuple[Optional[int], Optional[int]]:
    """Return the peak of what was used, and of what the allocator held; see `MEMORY`."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    status = Path('/proc/self/status')
    lines = status.read_text().splitlines() if status.exists() else []
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith('VmHWM')]
    return (found[0] if found else None), None


MEMORY = MappingProxyType({
    'cuda': 'torch.cuda.max_memory_allocated: weights, tokens, results and what is between, '
            'compiling or recording included; reserved: what the allocator held',
    'cpu': 'peak resident memory of the process (VmHWM): libraries and weights included'})
"""Type of device to what its figures of memory are."""


def synchronisation(call: Callable[[], Any], device: torch.device) -> Optional[str]:
    """Return 'none', or what in a call makes the host wait for the device; None off CUDA."""
    if device.type != 'cuda':
        return None
    torch.cuda.set_sync_debug_mode('error')
    try:
        call()
    except RuntimeError as error:
        return _words(error)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return 'none'


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block after ``limit_s``; in the main thread only.

    Compilers catch what is raised in them and may go on, so it is raised again every 5 s.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal, _frame):
        raise TimeoutError(f'took longer than {limit_s:.0f} s')
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(limit_s, 1e-3), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def versions() -> Dict[str, Optional[str]]:
    """Return what torch is, and the CUDA that it was built for."""
    return {'torch': torch.__version__, 'cuda': torch.version.cuda}


def device_name(device: torch.device) -> str:
    """Return what the device calls itself, or the CPU's threads that torch uses."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'CPU, {torch.get_num_threads()} threads'


def _built(net: str, use_tiny: bool) -> nn.Module:
    kind = NETS[net]
    with torch.device('meta'):
        return kind.make(kind.size(use_tiny))


def _on(device: torch.device):
    """Return a context in which new streams and events are those of the device."""
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def _clean_up(device: torch.device) -> None:
    """Free what the case before has left."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()


def _words(error: BaseException) -> str:
    """Return an error as one line of bounded length, with its kind."""
    text = ' '.join(str(error).split()) or 'no message'
    return f'{type(error).__name__}: {text[:_MOST_LETTERS]}'
