"""A random order of the numbers below n of which any place is computed alone."""

import numpy as np

ROUNDS = 6
MULTIPLIERS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
"""Of SplitMix64 (Steele, Lea and Flood, 2014)."""


class Permutation:
    """A Feistel network on the smallest even number of bits that holds n - 1.

    Numbers from n on are put in again until they fall below it ("cycle walking": Black and Rogaway, Ciphers with
    arbitrary finite domains, 2002).

    Args:
        size: n, 1 or more.
        seed: one seed, one order.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        half = max(1, (int(size - 1).bit_length() + 1) // 2)
        self._half, self._mask = np.uint64(half), np.uint64((1 << half) - 1)
        self._keys = np.random.default_rng(seed).integers(0, 2**63, ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The numbers at some places, int64."""
        numbers = self._once(np.asarray(places).astype(np.uint64))
        while (beyond := numbers >= self.size).any():
            numbers[beyond] = self._once(numbers[beyond])
        return numbers.astype(np.int64)

    def _once(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        first, second = MULTIPLIERS
        for key in self._keys:
            mixed = (right ^ key) * first
            mixed = (mixed ^ (mixed >> np.uint64(29))) * second
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & self._mask)
        return (left << self._half) | right
