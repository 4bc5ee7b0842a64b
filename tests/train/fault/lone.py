"""An island's world as far as joining sees it, and stand-ins for whom it meets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from crore.train.fault.seat import Seat
from crore.train.islands.joining import Islands
from crore.train.islands.settings import Outer
from crore.train.loop import Trainer
from crore.train.peers import Alone
from crore.train.place import Place

STEPS = 12


class OneMember:
    """A meeting of islands to which nobody else comes."""

    number, place, size, group, failed = 0, 0, 1, None, False

    def add(self, tensor: Tensor, wait_s: float) -> None:
        """Nobody adds anything."""

    def begin(self, done: int) -> None:
        """Nobody is waited for."""

    def fail(self, error: Exception) -> None:
        raise error

    def commit(self) -> bool:
        return True

    def close(self) -> None:
        """Nobody is left."""


class Failing(Alone):
    """Worlds of an island whose meeting does not hold, some times."""

    def __init__(self, times: int, *, leads: bool = True) -> None:
        super().__init__()
        self.times, self.leads, self.votes = times, leads, 0

    def publish(self, tensors: Sequence[Tensor]) -> None:
        """What another leads with does not arrive: a sum over nobody."""
        if not self.leads:
            for tensor in tensors:
                tensor.zero_()

    def commit(self) -> bool:
        self.votes += 1
        return self.votes > self.times


class Linked(Alone):
    """Worlds of one island in one process: what the first publishes the second is given."""

    def __init__(self, sent: list[Tensor], *, leads: bool) -> None:
        super().__init__()
        self.sent, self.leads = sent, leads

    def publish(self, tensors: Sequence[Tensor]) -> None:
        if self.leads:
            self.sent += [tensor.clone() for tensor in tensors]
        else:
            for tensor in tensors:
                tensor.copy_(self.sent.pop(0))


class Run:
    """What joining needs to know of a run of so many steps, of eight samples each."""

    def __init__(self) -> None:
        self.place, self.share = Place(), SimpleNamespace(whole=4)
        self.job = SimpleNamespace(seq_len=8)

    @property
    def over(self) -> bool:
        return self.place.samples >= 8 * STEPS


class Island:
    """An island's world with weights of its own, as far as joining sees it."""

    def __init__(
        self, outer: Outer, peers: Any = None, *, island: int = 0, islands: int = 2,
        fleet: str = "",
    ) -> None:  # fmt: skip
        self.weights = {
            f"layers.{k}.w": torch.nn.Parameter(torch.full((3, 2), float(k))) for k in range(2)
        }
        self.told: list[tuple[str, str]] = []
        seat = Seat(world=island, worlds=1, island=island, islands=islands, fleet=fleet)
        self.islands = Islands(
            seat, outer, self.weights, peers=peers or Alone(), asked=lambda: False,
            tell=lambda what, line: self.told.append((what, line)),
        )  # fmt: skip
        if not fleet:
            self.islands._meeting = cast("Any", OneMember())
        self.run = cast("Trainer", Run())

    def train(self, steps: int, by: float = 0.25) -> None:
        """Take inner steps, each of which moves the weights."""
        for _ in range(steps):
            with torch.no_grad():
                for weight in self.weights.values():
                    weight.add_(by)
            self.run.place.step += 1
            self.run.place.samples += 8
            self.run.place.met += 1
            self.islands.after(self.run)

    def bits(self) -> dict[str, bytes]:
        """Return all bits that a turn may change."""
        tensors = {**self.islands.tensors(), **self.weights}
        return {
            name: bytes(t.detach().contiguous().view(torch.uint8).flatten().tolist())
            for name, t in tensors.items()
        }

    def all_of_it(self) -> tuple[Any, ...]:
        return self.bits(), self.islands.facts(), repr(self.run.place)
