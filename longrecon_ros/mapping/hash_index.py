"""A vectorised hash table from 64-bit keys to positions."""

import numpy as np

_EMPTY = np.int64(-1)


class HashIndex:
    """Maps keys >= 0 to positions >= 0 by open addressing with linear probing.

    Holds at most ``n_keys`` different keys in its life, at a load of one half or less; all
    operations take arrays and cost O(1) a key on average.
    """

    def __init__(self, n_keys: int):
        self._bits = max(4, int(2 * n_keys - 1).bit_length())
        self._keys = np.full(1 << self._bits, _EMPTY)
        self._positions = np.full(1 << self._bits, -1, np.int32)

    def get(self, keys: np.ndarray) -> np.ndarray:
        """Return the positions (n,) of keys (n,) i64; -1 for those that are absent."""
        return self._positions[self._probe(keys, self._hash(keys))].astype(np.int64)

    def put(self, keys: np.ndarray, positions: np.ndarray) -> None:
        """Set the positions (n,) of keys (n,) i64, which must differ from each other."""
        slots = self._hash(keys)
        pending = np.arange(len(keys))
        while len(pending):
            at = slots[pending] = self._probe(keys[pending], slots[pending])
            is_free = self._keys[at] == _EMPTY
            # keys that chose the same free slot overwrite each other: the last has it
            self._keys[at[is_free]] = keys[pending[is_free]]
            pending = pending[self._keys[at] != keys[pending]]
        self._positions[slots] = positions

    def _hash(self, keys: np.ndarray) -> np.ndarray:
        # Fibonacci hashing: the top bits of a product with 2^64 over the golden ratio
        product = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (product >> np.uint64(64 - self._bits)).astype(np.int64)

    def _probe(self, keys: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the slot of each key from ``start`` on, or the first free one."""
        slots = start.copy()
        pending = np.arange(len(keys))
        while len(pending):
            there = self._keys[slots[pending]]
            pending = pending[(there != keys[pending]) & (there != _EMPTY)]
            slots[pending] = (slots[pending] + 1) & (len(self._keys) - 1)
        return slots
