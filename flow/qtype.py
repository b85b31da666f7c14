"""Integer types of a tensor's codes."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BITS = 63  # codes and accumulators are held in int64; one bit is kept for headroom


@dataclass(frozen=True)
class QType:
    """Integers of `bits` bits; `narrow` drops the lowest signed, or the highest unsigned, code."""

    bits: int
    signed: bool
    narrow: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be from 1 to {MAX_BITS}, not {self.bits}")

    @property
    def low(self) -> int:
        """Smallest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + int(self.narrow)

    @property
    def high(self) -> int:
        """Largest code."""
        if self.signed:
            return (1 << (self.bits - 1)) - 1
        return (1 << self.bits) - 1 - int(self.narrow)

    @classmethod
    def covering(cls, low: int, high: int) -> QType:
        """The smallest type that holds every integer from `low` to `high`.

        Raises:
            ValueError: the range is empty or needs more than 63 bits.
        """
        if low > high:
            raise ValueError(f"low must be at most high, not {low} > {high}")
        if low >= 0:
            return cls(max(high.bit_length(), 1), signed=False)
        return cls(max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1, signed=True)

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}{' narrow' if self.narrow else ''}"
