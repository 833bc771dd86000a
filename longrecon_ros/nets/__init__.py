"""The networks: torch only. Tensors in, tensors out; what must last from call to call is passed.

Every layer computes in the type of its own weights and casts what comes in (`layers`), so that
precision is decided once, by the types that the weights are given (`policy`). Shapes: B sequences
of N frames, F = B N images, H x W px in h x w patches, P tokens a frame, C channels.
"""
