"""Random numbers as the engine draws them: SplitMix64 (Steele, Lea and Flood 2014) from a seed and a position."""

from __future__ import annotations

GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


class Draws:
    """The numbers that event (or row) `position` of an engine with this seed draws."""

    def __init__(self, seed: int, position: int) -> None:
        self._state = mixed((seed + GAMMA) & MASK) ^ mixed((position * GAMMA + 1) & MASK)

    def next(self) -> int:
        self._state = (self._state + GAMMA) & MASK
        return mixed(self._state)

    def uniform(self) -> float:
        """In [0, 1), a multiple of 2^-24."""
        return (self.next() >> 40) / 2**24

    def below(self, bound: int) -> int:
        """In [0, bound), by multiplication (Lemire 2019)."""
        return (self.next() >> 32) * bound >> 32
