"""One step of the trainer's own engine and optimizer under a ledger, on fake or real tensors."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from crore.catalog.types import ModelSpec
from crore.model.mesh import World, make_world
from crore.model.mixture import mixtures
from crore.model.parallelize import BuildOptions
from crore.model.private import (
    group_named,
    pipeline_stages,
    receive_buffers,
    tell_shapes,
    wrap_loss,
)
from crore.model.split import Split
from crore.rehearse.around import ABOVE, ALONE, Around, axes_around, crew_of
from crore.rehearse.joining import Round, take_round
from crore.rehearse.ledger import GRADIENTS, Ledger
from crore.rehearse.messages import Message, Phase
from crore.rehearse.replay import Book, Replay
from crore.train.checksum import checksum
from crore.train.engine import Engine
from crore.train.islands.outer import OuterState
from crore.train.live import MADE
from crore.train.local import local_part
from crore.train.optim import OptimSettings, build_optimizer
from crore.train.update import add_gradients, shared_sums, update

NORM: Final = 2.0
"""A gradient norm that is clipped, as it is at a run's start."""
CLIP: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is rehearsed: one step of a world."""

    spec: ModelSpec
    split: Split
    seq_len: int
    global_batch: int
    """Sequences of the world's step."""
    optimizer: str = "adamw"
    around: Around = ALONE
    """The worlds and islands it trains with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What one rank did in a step."""

    rank: int
    """In its world."""
    stages: tuple[int, ...]
    """Pipeline stages it holds."""
    parameters: int
    """Elements it holds."""
    messages: tuple[Message, ...]
    """In the order it issued them."""
    groups: dict[str, tuple[int, ...]]
    """Ranks of each process group of the world that a message names."""
    flops: int
    operations: int
    peak_bytes: int
    peak_kinds: dict[str, int]
    """Bytes at the peak by kind: weights, gradients, optimizer, gathered, tokens, made."""
    kept_bytes: int
    """Alive when the step had ended."""
    shards: dict[str, tuple[int, ...]]
    """Shape of its part of each parameter, by the name in the whole model."""
    by_round: dict[int, tuple[int, int]]
    """FLOPs and operations of each micro-batch, -1 for what is outside; empty where some were only
    booked."""
    round: Round | None = None
    """Joining the other islands, as the leading world's rank does; None where there are none."""


def axes_of(world: World) -> dict[str, tuple[str, ...]]:
    """Return the axes of each process group of a world, by the group's name.

    Weights are sharded over data and context ranks together, experts over fewer: both are dp_shard.
    """
    names: dict[str, tuple[str, ...]] = {}
    shards = {"fsdp": "dp_shard", "efsdp": "dp_shard"}
    meshes = ((world.dense, ("pp", "dp_replicate", "fsdp", "tp")), (world.context, ("cp",)),
              (world.sparse, ("dp_replicate", "efsdp", "ep")))  # fmt: skip
    for mesh, axes in meshes:
        for axis in axes if mesh is not None else ():
            assert mesh is not None
            name, word = mesh.get_group(axis).group_name, shards.get(axis, axis)
            if mesh[axis].size() > 1 and word not in names.get(name, ()):
                names[name] = (*names.get(name, ()), word)
    if world.tied is not None:
        names[world.tied.group_name] = ("tied",)
    if dist.group.WORLD is not None:
        names.setdefault(dist.group.WORLD.group_name, ("world",))
    return names


class Stage:
    """A rank of a world, built and ready to take steps."""

    def __init__(
        self, work: Work, *, allocation: Callable[[], AbstractContextManager[Any]] = nullcontext,
        seed: int | None = 0,
    ) -> None:  # fmt: skip
        spec, device = work.spec, torch.device("cpu")
        self.work, self._inside = work, allocation
        self.world = make_world(
            work.split, device, experts=spec.experts > 0, tied=spec.tied_embeddings
        )
        self.engine = Engine(
            spec, work.seq_len, self.world, BuildOptions(seed=seed, allocation=allocation),
            global_batch=work.global_batch,
        )  # fmt: skip
        self.named = dict(self.engine.named_parameters())
        for part in self.engine.parts:
            for mixture in mixtures(part):
                mixture.in_turn = True
        if self.engine.schedule is not None and seed is None:
            tell_shapes(self.engine.schedule)
        with allocation():
            self.optimizer = build_optimizer(work.optimizer, self.named, OptimSettings(lr=1e-3))
            own = work.global_batch // work.split.dp
            self.samples = torch.zeros(own, work.seq_len + 1, dtype=torch.int64)
            outer = work.around.outer
            self.outer = None if outer is None else OuterState(self.named, outer)
        self.crew = crew_of(work.around)

    def step(self, ledger: Ledger | None = None) -> None:
        """Take one step as the trainer's loop does, booked in a ledger where one is given."""
        engine, optimizer = self.engine, self.optimizer
        outside: Callable[..., AbstractContextManager[None]]
        outside = ledger.update if ledger is not None else nullcontext
        with self._inside():
            optimizer.zero_grad()
            engine.backward(self.samples)
            with outside():
                self._add(engine.sum_load())
            with outside("world"):
                shared_sums(engine, self.named, 0.0, *self._told_to_others(ledger))
        if self.crew is not None:
            with outside():  # numbers that are judged, so of real tensors
                self.crew.sums({"nats": 0.0}, checksum=0, busy_s=0.0)
        with self._inside(), outside():
            update(engine, self.named, optimizer, norm=NORM, clip=CLIP, lr_factor=1.0)

    def _add(self, loads: Tensor | None) -> None:
        """Add up gradients, and the experts' loads, over the worlds of the island."""
        if self.crew is None:
            return
        add_gradients(self.named, self.crew.add)
        if loads is not None:
            self.crew.add([loads])

    def _told_to_others(self, ledger: Ledger | None) -> tuple[float, ...]:
        """Return what a world among others sums besides: seconds of work, its weights' checksum."""
        if self.crew is None:
            return ()
        with ledger.answering() if ledger is not None else nullcontext():
            return 0.0, float(checksum(self.named.values()))

    def trace(self, *, whole: bool = False) -> Trace:
        """Take one step under a ledger and return what it booked.

        A pipeline's passes are run once of each kind and booked from then on, unless `whole`.
        """
        ledger = self._ledger()
        sums: Ledger | Book = ledger
        with ExitStack() as stack:
            booked = self.engine.schedule is not None and not whole
            stack.enter_context(self._hooks(ledger, passes=not booked))
            stack.enter_context(ledger.counting())
            if not booked:
                self.step(ledger)
            else:
                replay = Replay(self.engine.schedule, ledger)
                self.step(ledger)
                sums = replay.close()
        return self._told(sums)

    def _ledger(self) -> Ledger:
        """Return a ledger that knows what is alive between steps."""
        ledger = Ledger(self._axes())
        ledger.hold(self.named.values(), "weights")
        ledger.hold(self.optimizer.state_tensors().values(), "optimizer")
        ledger.hold([self.samples], "tokens")
        if self.engine.schedule is not None:
            ledger.hold(receive_buffers(self.engine.schedule), MADE)
        return ledger

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return axes_of(self.world) | axes_around(self.work.around)

    def round(self) -> Round | None:
        """Join the other islands once, after a step; None where there are none."""
        if self.outer is None:
            return None
        ledger = Ledger(self._axes())
        return take_round(self.work.around, self.outer, self.named, ledger, self._inside)

    def _told(self, sums: Ledger | Book) -> Trace:
        return Trace(
            rank=self.world.rank, stages=tuple(self._stages()), flops=sums.flops,
            parameters=sum(_local(p).numel() for p in self.named.values()),
            shards={name: tuple(_local(p).shape) for name, p in self.named.items()},
            messages=tuple(sums.messages), operations=sums.operations,
            groups={
                name: members(name)
                for name in {m.group for m in sums.messages if m.axis not in ABOVE}
            },
            peak_bytes=sums.peak_bytes, peak_kinds=dict(+Counter(sums.peak_kinds)),
            kept_bytes=sums.now_bytes,
            by_round=dict(sums.by_round) if isinstance(sums, Ledger) else {},
            round=self.round(),
        )  # fmt: skip

    def _stages(self) -> list[int]:
        schedule = self.engine.schedule
        return [0] if schedule is None else [s.stage_index for s in pipeline_stages(schedule)]

    @contextmanager
    def _hooks(self, ledger: Ledger, *, passes: bool) -> Iterator[None]:
        """Tell the ledger which micro-batch is at work, and which tensors are gradients.

        Of a pipeline's `passes` only if they are all run.
        """
        undo = [
            p.register_post_accumulate_grad_hook(
                lambda p: ledger.hold([p.grad] if p.grad is not None else [], GRADIENTS)
            )
            for p in self.named.values()
        ]
        if self.engine.schedule is None:
            part = self.engine.parts[0]
            undo.append(part.register_forward_pre_hook(self._counting(ledger)))
            undo.append(part.register_forward_hook(lambda *_: ledger.sort_fsdp(part)))
        else:
            ledger.piped = True
            for stage in pipeline_stages(self.engine.schedule):
                _announce_transfers(stage, ledger)
                if passes:
                    _announce_passes(stage, ledger)
                if passes and stage.is_last:
                    _announce_loss(self.engine.schedule, stage.stage_index, ledger)
        try:
            yield
        finally:
            for handle in undo:
                handle.remove()

    def _counting(self, ledger: Ledger) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            ledger.stage, ledger.micro_batch = 0, ledger.micro_batch + 1
            ledger.sort_fsdp(self.engine.parts[0])

        return begin


PASSES: Final = ("forward_one_chunk", "backward_one_chunk", "backward_weight_one_chunk")
TRANSFERS: Final[dict[str, Phase]] = {
    "get_fwd_recv_ops": "forward", "get_fwd_send_ops": "forward",
    "get_bwd_recv_ops": "backward", "get_bwd_send_ops": "backward",
}  # fmt: skip


def _announce_passes(stage: Any, ledger: Ledger) -> None:
    """Have a pipeline stage say which micro-batch it works on."""

    def announced(run: Callable[..., Any]) -> Callable[..., Any]:
        def inner(micro_batch: int, *args: Any, **kwargs: Any) -> Any:
            with ledger.passing(stage.stage_index, micro_batch):
                done = run(micro_batch, *args, **kwargs)
            ledger.sort_fsdp(stage.submod)
            return done

        return inner

    for name in PASSES:
        setattr(stage, name, announced(getattr(stage, name)))


def _announce_transfers(stage: Any, ledger: Ledger) -> None:
    """Have a pipeline stage say whose messages it sends and receives."""

    def addressed(run: Callable[..., Any], phase: Phase) -> Callable[..., Any]:
        def inner(micro_batch: int) -> Any:
            transfers = run(micro_batch)
            for transfer in transfers:
                ledger.address(transfer.tensor, (phase, stage.stage_index, micro_batch))
            return transfers

        return inner

    for name, phase in TRANSFERS.items():
        setattr(stage, name, addressed(getattr(stage, name), phase))


def _announce_loss(schedule: Any, stage: int, ledger: Ledger) -> None:
    """Have the loss, too, say which micro-batch it is of: they come one after the other."""
    seen = itertools.count()

    def wrap(run: Callable[..., Any]) -> Callable[..., Any]:
        def loss(output: Any, target: Tensor) -> Any:
            with ledger.passing(stage, next(seen)):
                return run(output, target)

        return loss

    wrap_loss(schedule, wrap)


def members(name: str) -> tuple[int, ...]:
    """Return the ranks of a process group, in the world."""
    return tuple(dist.get_process_group_ranks(group_named(name)))


def _local(tensor: Tensor) -> Tensor:
    return local_part(tensor.detach())
