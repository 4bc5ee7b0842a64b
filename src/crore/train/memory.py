"""Peak bytes of tensors on a rank: what a plan's memory is held against."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.live import LiveBytes
from crore.train.local import local_part
from crore.train.meters import peak_memory
from crore.train.records import MemoryKind


class TensorMemory:
    """Counts the tensors of this process's first step; on CUDA the allocator counts them all.

    Every step makes the same tensors, and counting is slow on a CPU, so one step is counted.
    `held` gives what is alive between steps: weights and optimizer state. Compiled blocks make
    tensors that nobody sees: then the whole process is measured instead.
    """

    def __init__(
        self, held: Callable[[], Iterable[Tensor]], device: str, *, compiled: bool
    ) -> None:
        self._held, self._device = held, device
        self._counts = not device.startswith("cuda") and not compiled
        self._bytes: float | None = None

    @property
    def kind(self) -> MemoryKind:
        """What is counted."""
        return "resident" if not self._counts and self._device == "cpu" else "tensors"

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Count what is done inside, the first time."""
        if not self._counts or self._bytes is not None:
            yield
            return
        count = LiveBytes(local_part(tensor.detach()) for tensor in self._held())
        with count:
            yield
        self._bytes = float(count.peak_bytes)

    def peak_bytes(self) -> float:
        """Return the peak of this rank so far."""
        return peak_memory(self._device, self._bytes).bytes

    def fullest_bytes(self) -> float:
        """Return the largest peak of all ranks; every rank must ask."""
        peak = torch.tensor([self.peak_bytes()], dtype=torch.float64, device=self._device)
        if dist.is_initialized():
            dist.all_reduce(peak, dist.ReduceOp.MAX)
        return float(peak)


def around_both(*contexts: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return one context per step that enters several, the first outermost."""

    @contextlib.contextmanager
    def enter(step: int) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context(step))
            yield

    return enter
