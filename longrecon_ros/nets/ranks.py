"""The processes that share one run (`torch.distributed`); one alone needs none of it.

`torchrun` starts them and tells each its rank. Tensors on a GPU go by NCCL, those on a CPU by
gloo. Everybody takes part in every call, but for `sent` and `received`. A process that is gone, or
silent for longer than the limit, is a `RankLost` in all others: nobody waits for ever.
"""

from datetime import timedelta
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .launched import rank_and_size


class RankLost(RuntimeError):
    """Another process of the run has ended or does not answer."""


class Ranks:
    """The processes of a run; without `join` this one alone."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, timeout_s: float) -> 'Ranks':
        """Join the processes that torchrun has started, if it has; waits for all of them.

        Raises RankLost when one does not come, and RuntimeError where torch cannot do it.
        """
        rank, size = rank_and_size()
        if size == 1:
            return cls()
        import torch.distributed as dist
        if not dist.is_available():
            raise RuntimeError('this torch was built without torch.distributed')
        backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
        ranks = cls(rank, size)
        ranks._guarded(lambda: dist.init_process_group(
            backend, timeout=timedelta(seconds=timeout_s)))
        return ranks

    def leave(self) -> None:
        """Let go of the others."""
        import torch.distributed as dist
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def summed(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        """Return the sums of the tensors of all processes; the tensors may be written over."""
        if self.size > 1:
            import torch.distributed as dist
            for tensor in tensors:
                self._guarded(lambda tensor=tensor: dist.all_reduce(tensor))
        return list(tensors)

    def first_with(self, has: bool) -> Optional[int]:
        """Return the lowest rank that has what it is asked for; None if nobody has."""
        if self.size == 1:
            return 0 if has else None
        import torch.distributed as dist
        found = torch.tensor(self.rank if has else self.size)
        self._guarded(lambda: dist.all_reduce(found, op=dist.ReduceOp.MIN))
        return int(found) if found < self.size else None

    def copied(self, tensors: Sequence[Tensor], source: int) -> List[Tensor]:
        """Return the tensors of the process ``source``; those of the others say their shapes."""
        if self.size == 1:
            return list(tensors)
        import torch.distributed as dist
        copies = [tensor.clone() for tensor in tensors]
        for copy in copies:
            self._guarded(lambda copy=copy: dist.broadcast(copy, source))
        return copies

    def all_texts(self, text: str) -> List[str]:
        """Return the texts of all processes, by rank."""
        if self.size == 1:
            return [text]
        import torch.distributed as dist
        texts: List[Optional[str]] = [None] * self.size
        self._guarded(lambda: dist.all_gather_object(texts, text))
        return [str(found) for found in texts]

    def sent(self, tensors: Sequence[Tensor]) -> None:
        """Hand tensors to rank 0, which waits for them in `received`."""
        import torch.distributed as dist
        for tensor in tensors:
            self._guarded(lambda tensor=tensor: dist.send(tensor.cpu().contiguous(), 0))

    def received(self, shapes: Sequence[Tuple[int, ...]], source: int) -> List[Tensor]:
        """Return float32 tensors of these shapes that the process ``source`` hands over."""
        import torch.distributed as dist
        tensors = [torch.empty(shape) for shape in shapes]
        for tensor in tensors:
            self._guarded(lambda tensor=tensor: dist.recv(tensor, source))
        return tensors

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            # "[place in the code] reason. Advice": it names sockets, not processes
            reason = (str(error).splitlines() or ['no reason given'])[0]
            reason = reason.rpartition('.cc:')[2].partition('] ')[2] or reason
            raise RankLost(f'process {self.rank} of {self.size} lost another one '
                           f'({reason.partition(". ")[0][:200]})') from None
