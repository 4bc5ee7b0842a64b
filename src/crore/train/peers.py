"""What the loop asks of the other worlds of its island; a world alone has an answer to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors of one rank by name, and the facts beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one world does of a step of its island."""

    first: int
    """Global index of its first sample."""
    samples: int
    """Of them it is given so many, in order."""
    rows: int
    """Sequences it runs: `samples`, filled up to what its layout needs; 0 for a spare."""
    whole: int
    """Samples of all worlds of the island together."""
    taken: int
    """By how many samples the run goes on, those of other islands included."""
    lr: float = 1.0
    """Factor of the learning rate."""


class Left(Exception):
    """This world leaves its island; another may take its seat."""


class Torn(Exception):
    """The worlds hold different weights, and no majority says whose are right."""


class Peers(Protocol):
    """The worlds that take each step together."""

    many: bool
    """Whether there may be others."""
    members: tuple[int, ...]
    """Worlds of the last step, their numbers in the fleet."""

    @property
    def leads(self) -> bool:
        """Whether this world speaks, and saves, for its island."""

    def attach(self, state: Callable[[], State], load: Callable[[State], None]) -> None:
        """Name the functions that give this rank's state to a world that joins, and take one up."""

    def begin(self, *, done: int) -> None:
        """Meet for a step, when `done` meetings came before; may load the state of another."""

    def share(self, first: int, size: int, unit: int, *, equal: bool) -> Share:
        """Return this world's part of `size` samples from `first` on, in units it can run."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over the worlds, in place; what comes out counts if `commit` says so."""

    def publish(self, tensors: Sequence[Tensor]) -> None:
        """Give every world the tensors of the one that leads, in place; as `add`, if it holds."""

    def sums(self, values: Mapping[str, float], checksum: int, busy_s: float) -> dict[str, float]:
        """Add up numbers over the worlds; compares the worlds' checksums and times beside it."""

    def commit(self) -> bool:
        """Return whether the step holds; if not, it is taken again."""

    def close(self) -> None:
        """Leave the others."""


class Alone:
    """A world without others."""

    leads, many = True, False

    def __init__(self, world: int = 0, island: int = 0, islands: int = 1) -> None:
        self.members: tuple[int, ...] = (world,)
        self._island, self._islands = island, islands

    def attach(self, state: Callable[[], State], load: Callable[[State], None]) -> None:
        """Nobody joins."""

    def begin(self, *, done: int) -> None:
        """Nobody is waited for."""

    def share(self, first: int, size: int, unit: int, *, equal: bool) -> Share:
        """Return all of the island's samples."""
        del unit, equal
        own = size // self._islands
        return Share(first=first + self._island * own, samples=own, rows=own, whole=own, taken=size)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""

    def publish(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""

    def sums(self, values: Mapping[str, float], checksum: int, busy_s: float) -> dict[str, float]:
        """Return the numbers."""
        del checksum, busy_s
        return dict(values)

    def commit(self) -> bool:
        """Return that the step holds."""
        return True

    def close(self) -> None:
        """Nobody is left."""
