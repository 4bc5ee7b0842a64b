"""The ledger of one rank: every byte that is alive, every message, every FLOP, in order.

It works below DTensor and FSDP, on fake tensors as on real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from crore.model.private import (
    CORES,
    CORES_BACKWARD,
    collective_of,
    group_of_collective,
    has_values,
    in_backward,
    propagation_apart,
    unreduced_gradients,
    whole_weights,
)
from crore.rehearse.messages import P2P, Message, Phase
from crore.train.live import RESIZED, LiveBytes

GRADIENTS: Final = "gradients"
BACKWARD_CORE: Final = 2.5
"""A flash kernel's backward products over its forward ones: it makes the scores again."""


Address: TypeAlias = tuple[Phase, int, int]
"""Phase, stage and micro-batch of a message between stages."""


class Mark(NamedTuple):
    """A ledger's sums at one moment."""

    messages: int
    flops: int
    operations: int
    now_bytes: int
    kinds: Counter[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """What a stretch of a step adds to a ledger."""

    messages: tuple[Message, ...]
    flops: int
    operations: int
    peak_bytes: int
    """The most that was alive in it, above what was alive when it began."""
    peak_kinds: Counter[str]
    """The same by kind; what was freed before is negative."""
    net_kinds: Counter[str]
    """What it left alive, less what it freed."""


READ: Final = "_local_scalar_dense"
"""The operation that makes a number of a tensor."""
HEADS_DIM: Final = 4
"""Dimensions of a message of attention heads."""


class Ledger(LiveBytes):
    """Counts what passes through the dispatcher while it is entered.

    `axes` names the axes of each process group by the group's name.
    """

    def __init__(self, axes: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.axes = axes
        self.messages: list[Message] = []
        self.flops = 0
        self.operations = 0
        self.by_round: dict[int, tuple[int, int]] = {}
        """FLOPs and operations by micro-batch."""
        self.stage, self.micro_batch = -1, -1
        self.piped = False
        """Whether a pipeline says which pass is at work: what is in none belongs to the step."""
        self._addressed: dict[int, Address] = {}
        self._outside: Phase | None = None
        self._axis, self._answers = "", False
        self._apart = 0
        self._issued, self._batches = -1, -1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Count nothing inside: what is done there is no part of the step."""
        self._apart += 1
        try:
            yield
        finally:
            self._apart -= 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is done inside, sharding propagation's own tensors apart."""
        with propagation_apart(self.apart), self:
            yield

    @contextmanager
    def update(self, axis: str = "", phase: Phase = "step") -> Iterator[None]:
        """Book what is done inside to the step and not to a pass, its messages to `axis` if given.

        (A mesh whose axis has all ranks uses the group of the world for it.)
        """
        before = self._outside, self._axis
        self._outside, self._axis = phase, axis
        try:
            with self.passing(-1, -1):
                yield
        finally:
            self._outside, self._axis = before

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer 1 where a number is read of a tensor that holds none."""
        self._answers = True
        try:
            yield
        finally:
            self._answers = False

    @contextmanager
    def passing(self, stage: int, micro_batch: int) -> Iterator[None]:
        """Book what is done inside to a micro-batch's pass through a stage."""
        before = self.stage, self.micro_batch
        self.stage, self.micro_batch = stage, micro_batch
        try:
            yield
        finally:
            self.stage, self.micro_batch = before

    def sort_fsdp(self, part: nn.Module) -> None:
        """Book what FSDP holds of a part as what it is: whole gradients, whole weights.

        And gradients that were not accumulated but set, as the second half of a backward pass does.
        """
        self.hold(unreduced_gradients(part), GRADIENTS)
        self.hold([p.grad for p in part.parameters() if p.grad is not None], GRADIENTS)
        self.hold(whole_weights(part), RESIZED)

    def mark(self) -> Mark:
        """Begin a stretch: what is counted from here on, and its own peak."""
        self.peak_bytes, self.peak_kinds = self.now_bytes, self.kinds.copy()
        self._issued = -1  # what lies between two stretches parts their transfers
        return Mark(len(self.messages), self.flops, self.operations, self.now_bytes,
                    self.kinds.copy())  # fmt: skip

    def since(self, mark: Mark) -> Stretch:
        """Return what was counted since a mark, the last one made."""
        extra = self.peak_kinds.copy()
        extra.subtract(mark.kinds)
        net = self.kinds.copy()
        net.subtract(mark.kinds)
        return Stretch(
            messages=tuple(self.messages[mark.messages :]), flops=self.flops - mark.flops,
            operations=self.operations - mark.operations,
            peak_bytes=self.peak_bytes - mark.now_bytes, peak_kinds=extra, net_kinds=net,
        )  # fmt: skip

    def address(self, tensor: Tensor, address: Address) -> None:
        """Say whose message a tensor will be that is about to be sent or received."""
        self._addressed[id(tensor.untyped_storage())] = address

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and book it; a DTensor's parts are booked one level below."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        kwargs = kwargs or {}
        if self._answers and func.overloadpacket.__name__ == READ and not has_values(args[0]):
            return 1.0 if args[0].is_floating_point() else 1
        # What is waited for is what was sent into, which a fake kernel does not know.
        waits = func.overloadpacket.__name__ == "wait_tensor" and not has_values(args[0])
        made = args[0] if waits else func(*args, **kwargs)
        if self._apart or func.namespace == "prim":
            return made
        flops = flops_of(func, args, kwargs, made)
        self.operations += 1
        self.flops += flops
        of_round = self.by_round.get(self.micro_batch, (0, 0))
        self.by_round[self.micro_batch] = of_round[0] + flops, of_round[1] + 1
        self._book_message(func, args, made)
        self.see(made)
        return made

    def _book_message(self, func: Any, args: Any, made: Any) -> None:
        group = group_of_collective(func, args)
        if group is None:
            return
        kind, peer = collective_of(func, args, group)
        held = [_bytes(leaf) for leaf in tree_leaves((args, made)) if isinstance(leaf, Tensor)]
        phase, stage, micro_batch = self._phase(), self.stage, self.micro_batch
        if kind in P2P:
            key = id(args[0][0].untyped_storage())
            phase, stage, micro_batch = self._addressed.pop(key, (phase, stage, micro_batch))
        message = Message(
            axis=self._axis_of(group.group_name, kind, args), collective=kind, peer=peer,
            group=group.group_name, ranks=group.size(), bytes=max(held, default=0),
            phase=phase, micro_batch=micro_batch, stage=stage,
            batch=self._batch() if kind in P2P else -1,
        )  # fmt: skip
        self.messages.append(message)
        if kind == "reduce_scatter" and message.axis == "dp_shard":
            self.hold([x for x in tree_leaves(args[0]) if isinstance(x, Tensor)], GRADIENTS)

    def _axis_of(self, group: str, kind: str, args: Any) -> str:
        """Return the axis that a message is of: a group of all ranks may be that of several.

        Only experts and context parallelism exchange all to all, and only heads have four axes.
        """
        axes = self.axes.get(group, ("unknown",))
        if self._axis or len(axes) == 1:
            return self._axis or axes[0]
        if kind == "all_to_all":
            heads = next(x for x in tree_leaves(args) if isinstance(x, Tensor)).dim() == HEADS_DIM
            return "cp" if heads and "cp" in axes else "ep"
        return next(axis for axis in axes if axis not in ("cp", "ep"))

    def _batch(self) -> int:
        """Return the number of the batch: nothing runs between transfers issued together."""
        if self.operations != self._issued + 1:
            self._batches += 1
        self._issued = self.operations
        return self._batches

    def _phase(self) -> Phase:
        if self._outside is not None:
            return self._outside
        if self.piped and self.stage < 0:
            return "step"
        return "backward" if in_backward() else "forward"


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def flops_of(func: Any, args: Any, kwargs: Mapping[str, Any], made: Any) -> int:
    """Return the FLOPs of an operation: 2 per multiply-add of products and of attention cores.

    A core counts the pairs that a causal mask lets meet, forward `q · k` and the weighted sum of
    values, backward 2.5 times that (arXiv 2307.08691 §4.1); torch's counter knows no core on a CPU.
    """
    if func in CORES or func in CORES_BACKWARD:
        backward = func in CORES_BACKWARD
        q, k, v = args[1:4] if backward else args[:3]
        pairs = k.shape[-2] * (k.shape[-2] + 1) // 2
        forward = 2 * q.shape[0] * q.shape[1] * pairs * (q.shape[-1] + v.shape[-1])
        return int(forward * (BACKWARD_CORE if backward else 1))
    formula = flop_registry.get(func.overloadpacket)
    return int(formula(*args, **kwargs, out_val=made)) if formula is not None else 0
