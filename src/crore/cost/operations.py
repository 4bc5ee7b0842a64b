"""One training step as a list of operations, shared by planner, simulator and rehearsal.

Every numeric field is a float or `[N]`, zero where absent, and speaks of one execution on one rank.
`count` says how often a rank of that stage class executes it per repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from crore.cost.arrays import Num, present

Kind: TypeAlias = Literal[
    "gemm", "attention", "scan", "memory", "collective", "optimizer", "transfer"
]
Stage: TypeAlias = Literal["layer", "first", "last", "rank"]
"""Where it runs: with every layer, on the first or last pipeline rank, or once on every rank."""
Phase: TypeAlias = Literal["forward", "recompute", "backward", "step"]
Repeat: TypeAlias = Literal["micro_batch", "step", "outer_step"]
Axis: TypeAlias = Literal["", "pp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "tied", "world"]
"""Of a mesh; `tied` joins a pipeline's two ends, `world` all ranks."""
Redo: TypeAlias = Literal["never", "light", "core", "layer"]
"""Recomputed under full recompute, and under light or selective (core) where it says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gemm:
    """`groups` matrix products of `[m, k] x [k, n]`."""

    m: Num
    n: Num
    k: Num
    groups: Num = 1.0
    experts: bool = False
    """One product per expert, launched as a group."""
    half: bool = False
    """Kept in 16 bits whatever the linear layers' format."""

    @property
    def flops(self) -> Num:
        """2·m·n·k·groups."""
        return 2 * self.m * self.n * self.k * self.groups


@dataclass(kw_only=True, slots=True)
class Operation:
    """One kernel, message or transfer of a step.

    Nothing changes one; it is not frozen, as that takes three times as long: steps have hundreds.
    """

    name: str
    kind: Kind
    stage: Stage = "layer"
    phase: Phase = "forward"
    repeat: Repeat = "micro_batch"
    count: Num = 1.0
    flops: Num = 0.0
    bytes_moved: Num = 0.0
    message_bytes: Num = 0.0
    """The collective's full buffer on one rank."""
    axis: Axis = ""
    collective: str = ""
    saved_bytes: Num = 0.0
    """Kept from this forward until its backward."""
    freed_bytes: Num = 0.0
    launches: Num = 0.0
    """Kernels the host starts."""
    gemm: Gemm | None = None
    passes: float = 1.0
    """How many products of `gemm`'s shape it runs."""
    tensor_bytes: Num = 0.0
    """Of one tensor that an element-wise kernel reads or makes, where a list is that exact."""
    exponential: bool = False
    """A pass with one exponential per element: an activation, a softmax."""
    scores: bool = False
    """A memory pass over the attention matrix (unfused attention only)."""
    expert: bool = False
    """Part of an expert layer."""
    redo: Redo = "layer"
    drop: Redo = "layer"
    """The mode from which on its saved bytes are dropped."""
    backward: float = 2.0
    """Backward work over forward work: 2 for a product, 2.5 for a flash kernel, 1 for a message."""


def matmul(name: str, shape: Gemm, saved_bytes: Num = 0.0, **fields: object) -> Operation:
    """Return the operation of one matrix product."""
    values: dict[str, object] = {
        "name": name, "kind": "gemm", "gemm": shape, "flops": shape.flops,
        "saved_bytes": saved_bytes, "launches": 1.0,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


_FIELDS = tuple(field.name for field in fields(Operation))


def twin(op: Operation, **changes: object) -> Operation:
    """Return what `dataclasses.replace` does, in half of its time: a step has hundreds of them."""
    new = object.__new__(Operation)
    for name in _FIELDS:
        setattr(new, name, changes[name] if name in changes else getattr(op, name))
    return new


def backward_of(op: Operation) -> Operation:
    """Return the backward twin: the same shape, more passes, activations freed."""
    mirrored = {"all_gather": "reduce_scatter", "reduce_scatter": "all_gather"}
    return twin(
        op,
        phase="backward",
        flops=op.flops * op.backward,
        bytes_moved=op.bytes_moved * op.backward,
        launches=op.launches * 2,
        passes=op.passes * op.backward,
        collective=mirrored.get(op.collective, op.collective),
        saved_bytes=0.0,
        freed_bytes=op.saved_bytes,
    )


def recompute_of(op: Operation, share: Num) -> Operation | None:
    """Return the recomputed twin, its count scaled by the share of layers redone, or None."""
    if op.redo == "never" or op.stage != "layer" or not present(share):
        return None
    return twin(op, phase="recompute", count=op.count * share, saved_bytes=0.0, freed_bytes=0.0)
