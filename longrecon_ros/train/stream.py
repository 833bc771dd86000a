"""A net that runs over whole sequences, window by window, so that gradients pass through."""

from typing import List, Tuple

import torch
from torch import Tensor

from ..nets.loger import LogerNet, Memory, NOTHING, roles_of
from ..nets.pi3 import Pi3Output
from ..nets.vit import PATCH
from .windows import windows_of


class StreamNet(LogerNet):
    """LoGeR with a call for sequences; its tensors have the names and shapes of `LogerNet`'s."""

    def stream(self, images: Tensor, window: int, overlap: int, memory: Memory = NOTHING,
               reset_every: int = 0) -> Tuple[List[Pi3Output], Memory]:
        """Return the results of the windows of images (B, N, 3, H, W), and the memory after.

        All windows must be full. Frames are encoded once and heads are run once, on all windows
        together: the sequence of operations is that of `forward` otherwise. ``reset_every``:
        windows after which the fast weights begin anew; 0: never.
        """
        b, n = images.shape[:2]
        h, w = (side // PATCH for side in images.shape[-2:])
        patches = self.encode(images.flatten(0, 1)).unflatten(0, (b, n))
        by = self.rotation(h, w, images.device)
        tokens = []
        for k, frames in enumerate(windows_of(n, window, overlap)):
            if reset_every and k and k % reset_every == 0:
                memory = memory.without_fast()
            mixed, memory = self._recall(patches[:, frames], by, memory,
                                         roles_of(window, window, overlap))
            tokens.append(mixed)
        out = self.read(torch.cat(tokens), by, (len(tokens) * b, window), h, w)
        return [Pi3Output(*part) for part in zip(
            out.local_points.split(b), out.confidence.split(b), out.T_world_camera.split(b))
        ], memory
