"""A pipeline's passes, each kind run once and then only booked: a step of any length in a moment.

Every micro-batch of a stage does the same, but for whether weights are gathered already, whether
gradients are there to add to, and whether the schedule still holds the output. A pass is run for
real the first time that it is met in such a state; torch's own schedule runs whole, and with it
every send, receive, gather and reduction outside of passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed.pipelining.schedules import PipelineScheduleSingle

from crore.model.private import (
    Placed,
    gathered,
    gradients_there,
    pipeline_stages,
    set_gathered,
    set_gradients_there,
    wrap_loss,
)
from crore.rehearse.ledger import Ledger, Stretch
from crore.rehearse.messages import Message

Key: TypeAlias = tuple[object, ...]


class Book:
    """The sums of a step, made of stretches."""

    def __init__(self, kinds: Counter[str]) -> None:
        self.messages: list[Message] = []
        self.flops = self.operations = 0
        self.kinds = kinds.copy()
        self.now_bytes = self.peak_bytes = sum(kinds.values())
        self.peak_kinds = kinds.copy()

    def add(self, stretch: Stretch, micro_batch: int | None = None) -> None:
        """Add a stretch, its messages as of `micro_batch` where one is given."""
        again = micro_batch is not None
        self.messages += (
            [replace(m, micro_batch=micro_batch) for m in stretch.messages]  # type: ignore[arg-type]
            if again
            else stretch.messages
        )
        self.flops += stretch.flops
        self.operations += stretch.operations
        if self.now_bytes + stretch.peak_bytes > self.peak_bytes:
            self.peak_bytes = self.now_bytes + stretch.peak_bytes
            self.peak_kinds = _sum(self.kinds, stretch.peak_kinds)
        self.kinds = _sum(self.kinds, stretch.net_kinds)
        self.now_bytes += sum(stretch.net_kinds.values())


def _sum(a: Counter[str], b: Counter[str]) -> Counter[str]:
    total = a.copy()
    total.update(b)
    return total


class State(NamedTuple):
    """What a pass finds, and what makes it another pass."""

    whole: tuple[bool, ...]
    """Which weights are gathered."""
    gradients: tuple[Placed, ...]
    """Which gradients exist, and how they are placed."""

    @classmethod
    def of(cls, part: nn.Module) -> State:
        """Return the state of a stage's part of the model."""
        return cls(gathered(part), gradients_there(part))

    def restore(self, part: nn.Module) -> None:
        """Bring a part into this state."""
        set_gathered(part, self.whole)
        set_gradients_there(part, self.gradients)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """A pass as it went the first time."""

    stretch: Stretch
    left: State
    """What it left behind."""


class Replay:
    """Stands in for the passes of a rank's stages."""

    _loss: Callable[..., Tensor]

    def __init__(self, schedule: Any, ledger: Ledger) -> None:
        self.ledger = ledger
        self.book = Book(ledger.kinds)
        self._learned: dict[Key, Learned] = {}
        self._mark = ledger.mark()
        self._latest: tuple[int, int] = (-1, -1)
        self._holds = isinstance(schedule, PipelineScheduleSingle)
        self._passes = {}
        for stage in pipeline_stages(schedule):
            self._passes[stage.stage_index] = _Passes(stage)
            stage.forward_one_chunk = self._forward(stage)
            stage.backward_one_chunk = self._backward(stage)
            stage.backward_weight_one_chunk = self._weight(stage)
            stage.perform_reduce_grad = self._reduce(stage)
        wrap_loss(schedule, self._stand_in_loss)

    def close(self) -> Book:
        """Book what came after the last pass, and return the sums."""
        self.book.add(self.ledger.since(self._mark))
        return self.book

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Book what was done since the last pass; what is done inside is booked from memory."""
        self.book.add(self.ledger.since(self._mark))
        try:
            yield
        finally:
            self._mark = self.ledger.mark()

    def _stretch(self, stage: Any, micro_batch: int, run: Callable[[], object]) -> Stretch:
        mark = self.ledger.mark()
        with self.ledger.passing(stage.stage_index, micro_batch):
            run()
        self.ledger.sort_fsdp(stage.submod)
        return self.ledger.since(mark)

    def _known(
        self, kind: str, stage: Any, held: bool, learn: Callable[[], Stretch], micro_batch: int
    ) -> None:
        """Book a pass, run for real if its like was not met before."""
        part, passes = stage.submod, self._passes[stage.stage_index]
        found_state = State(gathered(part), passes.gradients)
        key = (kind, stage.stage_index, found_state, held)
        if key not in self._learned:
            found_state.restore(part)
            stretch = learn()
            self._learned[key] = Learned(stretch=stretch, left=State.of(part))
        found = self._learned[key]
        set_gathered(part, found.left.whole)
        passes.gradients = found.left.gradients
        self.book.add(found.stretch, micro_batch)

    def _forward(self, stage: Any) -> Callable[..., Any]:
        passes = self._passes[stage.stage_index]

        def forward(micro_batch: int, args: Any, *_: Any, **__: Any) -> Any:
            def learn() -> Stretch:
                return self._stretch(stage, micro_batch, lambda: passes.forward(micro_batch, args))

            with self._aside():
                # The first pass of all makes what stays: tables, buffers.
                kind = "forward" if passes.given else "first forward"
                passes.given[micro_batch] = args
                self._known(kind, stage, False, learn, micro_batch)
                passes.learn_shapes(micro_batch)
                self._latest = (stage.stage_index, micro_batch)
                with passes.stand_in():
                    return passes.forward(micro_batch, args)

        return forward

    def _stand_in_loss(self, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        self._loss = run

        def loss(_: Any, target: Tensor) -> Tensor:
            number, micro_batch = self._latest
            passes = self._passes[number]

            def learn() -> Stretch:
                held: list[Tensor] = []  # the graph's end, as the schedule holds it
                with passes.kept(micro_batch):
                    out = passes.again(micro_batch)
                    return self._stretch(
                        passes.stage, micro_batch, lambda: held.append(run(out, target))
                    )

            with self._aside():
                self._known("loss", passes.stage, False, learn, micro_batch)
                passes.targets[micro_batch] = target
                return torch.zeros(())

        return loss

    def _backward(self, stage: Any) -> Callable[..., Any]:
        passes = self._passes[stage.stage_index]

        def backward(micro_batch: int, loss: Any = None, full_backward: bool = True,
                     last_backward: bool = False) -> None:  # fmt: skip
            held = self._outlives(stage, micro_batch)
            more = {"full_backward": full_backward, "last_backward": last_backward}

            def learn() -> Stretch:
                with self._graph(stage, micro_batch) as loss:
                    stretch = self._stretch(
                        stage, micro_batch, lambda: passes.backward(micro_batch, loss=loss, **more)
                    )
                    passes.input_gradients = stage.bwd_cache[micro_batch]
                    return stretch

            with self._aside():
                kind = "backward" if full_backward else "input"
                self._known(kind, stage, held, learn, micro_batch)
                with passes.stand_in():
                    passes.backward(micro_batch, loss=loss, **more)

        return backward

    def _outlives(self, stage: Any, micro_batch: int) -> bool:
        """Return whether something else than the stage holds a micro-batch's output.

        A schedule of one stage keeps the last output until the next one; where the next stage is
        on this rank, it reads the output itself, and keeps it.
        """
        latest = self._holds and self._latest == (stage.stage_index, micro_batch)
        return latest or stage.stage_index + 1 in self._passes

    @contextmanager
    def _graph(self, stage: Any, micro_batch: int) -> Iterator[Tensor | None]:
        """Have a real forward pass to go back through, in the state that was found; its loss."""
        passes, before = self._passes[stage.stage_index], State.of(stage.submod)
        with passes.kept(micro_batch):
            out = passes.again(micro_batch)
            loss = self._loss(out, passes.targets[micro_batch]) if stage.is_last else None
            # Held as long as what reads or returns it would hold it.
            out = out if self._outlives(stage, micro_batch) else None
            before.restore(stage.submod)
            yield loss
            del out

    def _weight(self, stage: Any) -> Callable[..., Any]:
        passes = self._passes[stage.stage_index]

        def weight(micro_batch: int, last_backward: bool = False) -> None:
            def learn() -> Stretch:
                with self._graph(stage, micro_batch) as loss:
                    found = State.of(stage.submod)
                    passes.backward(micro_batch, loss=loss, full_backward=False)
                    found.restore(stage.submod)
                    return self._stretch(stage, micro_batch, lambda: passes.weight(micro_batch))

            with self._aside():
                self._known("weight", stage, False, learn, micro_batch)
                with passes.stand_in():
                    passes.weight(micro_batch, last_backward=last_backward)

        return weight

    def _reduce(self, stage: Any) -> Callable[[int], None]:
        """Give the reduction, which is run for real, the gradients that passes would have left."""
        passes, run = self._passes[stage.stage_index], stage.perform_reduce_grad

        def reduce(factor: int) -> None:
            with self._aside():
                set_gradients_there(stage.submod, passes.gradients)
            run(factor)

        return reduce


class _Passes:
    """The passes of one stage as torch has them, and stand-ins for what they compute."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.backward, self.weight = stage.backward_one_chunk, stage.backward_weight_one_chunk
        self._run = stage.forward_one_chunk
        self.gradients = gradients_there(stage.submod)
        """As they would be had all passes been run."""
        self.given: dict[int, Any] = {}
        self.targets: dict[int, Tensor] = {}
        self.input_gradients: Any = ()
        self._output: Any = None

    def forward(self, micro_batch: int, args: Any) -> Any:
        """Run a forward pass as the schedule would."""
        return self._run(micro_batch, args, {}, save_forward_output=False)

    def again(self, micro_batch: int) -> Any:
        """Run a forward pass for real, whose stand-in was run before; returns its output."""
        return self.forward(micro_batch, self.given[micro_batch])

    def learn_shapes(self, micro_batch: int) -> None:
        """Remember what a forward pass returns, where it was run for real just now."""
        if self._output is None:
            made, _ = self.stage.fwd_cache[micro_batch]
            self._output = [(x.shape, x.dtype) for x in made]

    @contextmanager
    def stand_in(self) -> Iterator[None]:
        """Replace what passes compute; what they keep for sends and receives stays theirs."""
        stage = self.stage
        stage.forward_maybe_with_nosync = self._empty_output
        stage.backward_maybe_with_nosync = self._empty_gradients
        try:
            yield
        finally:
            del stage.forward_maybe_with_nosync, stage.backward_maybe_with_nosync

    @contextmanager
    def kept(self, micro_batch: int) -> Iterator[None]:
        """Put back what the stage keeps of a micro-batch when it was run once more for real."""
        stage = self.stage
        caches = (stage.fwd_cache, stage.bwd_cache, stage.backward_state, stage.dw_runner)
        before = [cache.get(micro_batch, _NONE) for cache in caches]
        try:
            yield
        finally:
            for cache, value in zip(caches, before, strict=True):
                cache.pop(micro_batch, None)
                if value is not _NONE:
                    cache[micro_batch] = value

    def _empty_output(self, *_: Any, **__: Any) -> Any:
        made = [torch.empty(shape, dtype=dtype) for shape, dtype in self._output]
        return made[0] if len(made) == 1 else tuple(made)

    def _empty_gradients(self, kind: str, given: dict[str, Any], **_: Any) -> Any:
        grads = [None if g is None else torch.empty_like(g) for g in self.input_gradients]
        if kind == "input":  # torch leaves them with the inputs, which live until the next step
            for value, grad in zip(given["input_values"], grads, strict=False):
                value.grad = grad
        return tuple(grads), []


_NONE = object()
