"""Operations behind a part of the step or of the memory, kinds of layers behind the weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from crore.cost.arrays import Num
from crore.cost.fabric import FabricDesign
from crore.cost.memory import stored
from crore.cost.memory_eager import activation_parts
from crore.cost.operations import Operation
from crore.cost.schedules import in_flight
from crore.cost.shape import weights
from crore.cost.step_messages import group_of
from crore.cost.step_time import Tally, data_messages, hide, tally
from crore.plan.explain.again import Case
from crore.units import format_bytes, format_si

COMPUTE: Final = {
    "products": "product", "attention": "attention", "memory passes": "memory",
    "recompute": "recompute",
}  # fmt: skip
"""Part of a step -> the tally's field that its micro-batches add up in."""
EXPOSED: Final = ("tp", "cp", "ep", "pp", "offload")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One operation of a part, or a rest that no operation stands for."""

    name: str
    count: float
    """Executions in a step on one rank; 0 where there is nothing to count."""
    amount: float
    """Seconds or bytes, all executions together."""
    size: str = ""
    """Of one execution: a product's `m x n x k`, bytes moved, sent or kept, FLOPs."""


def step_items(case: Case, part: str) -> tuple[Item, ...]:
    """Return the operations that make up a part of the step, largest first; none for waiting.

    Each operation is put through the same tally as all of them together.
    """
    if part == "optimizer":
        rest = Item(name="host time per step", count=1.0, amount=case.pricer.constants.host_step_s)
        return _sorted([*_items(case, lambda t: t.optimizer, 1.0), rest])
    rounds = _plain(case.job.micro_batches)
    if part in COMPUTE:
        return _sorted(_items(case, lambda t: getattr(t, COMPUTE[part]), rounds))
    if part == "embedding, head, loss" and _plain(case.job.layout.pp) == 1:
        return _sorted(_items(case, lambda t: t.first + t.last, rounds))
    if part in EXPOSED:
        axis = "host" if part == "offload" else part
        seen = _share(case.exposed[part], case.total.axis.get(axis, 0.0))
        if part == "pp":  # with those that reach a rank late
            seen = _share(case.plan.step_split_s[part], rounds * case.total.axis.get(axis, 0.0))
        return _sorted(_items(case, lambda t: t.axis.get(axis, 0.0) * seen, rounds))
    return _sorted(_data_items(case, rounds)) if part == "dp" else ()


def _data_items(case: Case, rounds: float) -> list[Item]:
    """Data parallelism: what micro-batches gather and scatter, and what is sent once per step."""
    once: Num = sum(case.total.step.values(), start=np.asarray(0.0))
    c, overlap = case.pricer.constants, case.job.stack.dp_overlap
    seen_once = _share(hide(once, case.stages.slowest, overlap, c), once)
    seen = _share(case.exposed["dp"], data_messages(case.total))
    return [
        *_items(case, lambda t: sum(t.step.values()) * seen_once, 1.0),
        *_items(case, lambda t: data_messages(t) * seen, rounds),
    ]


def _items(case: Case, seconds: Any, rounds: float) -> list[Item]:
    """Return what every operation adds, by `seconds` of its own tally, times the rounds."""
    found: dict[str, Item] = {}
    for op in case.ops:
        amount = rounds * _plain(seconds(_alone(case, op)))
        if amount:
            name = op.name if op.phase in ("forward", "step") else f"{op.name}, {op.phase}"
            known = found.get(name, Item(name=name, count=0.0, amount=0.0, size=_size(case, op)))
            count = known.count + rounds * _plain(op.count)
            found[name] = replace(known, count=count, amount=known.amount + amount)
    return list(found.values())


def _size(case: Case, op: Operation) -> str:
    """Say how large one execution is, so that its seconds can be checked by hand."""
    if op.gemm is not None:
        sides = (op.gemm.m, op.gemm.n, op.gemm.k, *[g for g in [op.gemm.groups] if _plain(g) > 1])
        passes = f", {op.passes:g} times" if op.passes != 1 else ""
        return " x ".join(f"{_plain(side):,.0f}" for side in sides) + passes
    if op.kind == "collective":
        group = group_of(case.job, op.axis, case.pricer.constants, expert=op.expert)
        sent = _plain(op.message_bytes * case.job.machine.element_scale)
        return f"{format_bytes(sent)}, {_plain(group.ranks):,.0f} ranks"
    if op.kind == "transfer":
        return format_bytes(_plain(op.message_bytes))
    moved = _plain(op.bytes_moved)
    return format_bytes(moved) if moved else format_si(_plain(op.flops), "FLOP")


def _alone(case: Case, op: Operation) -> Tally:
    return tally([op], case.pricer)


def memory_items(case: Case, part: str) -> tuple[Item, ...]:
    """Return what a part of the memory holds, largest first; none for closed forms.

    Activations and logits go by the operation that keeps them.
    """
    job = case.job
    if np.any(job.stack.eager):
        held = activation_parts(job) if part == "activations" else {}
        return _sorted([Item(name=n, count=1.0, amount=_plain(v)) for n, v in held.items()])
    scale = _plain(job.machine.element_scale)
    if part == "logits":
        at_loss = _plain(case.held.parts["logits"]) > 0
        return _sorted(_stored(case, 2, scale)) if at_loss else ()
    if part != "activations":
        return ()
    pipeline = _plain(job.layout.pp) > 1
    last = pipeline and _plain(case.held.parts["logits"]) > 0
    flight = in_flight(job.layout.schedule, job.layout.pp, job.layout.vpp, job.micro_batches)
    copies = (1.0 if last else _plain(flight)) * (1 - _plain(job.layout.offload_activations))
    inputs = _plain(stored(job, [])[0]) * scale * copies
    rest = Item(name="inputs of recomputed layers, outputs sent on", count=copies, amount=inputs)
    return _sorted([*_stored(case, 0, scale * copies, copies), rest])


def _stored(case: Case, which: int, factor: float, copies: float = 1.0) -> list[Item]:
    """Return what each operation keeps: `which` of layers (0) or the loss (2)."""
    none = _plain(stored(case.job, [])[which])
    found = []
    for op in case.ops:
        amount = (_plain(stored(case.job, [op])[which]) - none) * factor
        if amount and op.phase == "forward":
            count = _plain(op.count) * copies
            kept = format_bytes(_plain(op.saved_bytes))
            found.append(Item(name=op.name, count=count, amount=amount, size=kept))
    return found


def parameter_items(case: Case) -> tuple[Item, ...]:
    """Return the model's weights by kind of layer; `count` is layers, or experts of all layers."""
    s = case.plan.question.shape
    w = weights(s)
    kinds = {
        "attention layers": (s.attention, w.attention), "Mamba layers": (s.mamba, w.mamba),
        "DeltaNet layers": (s.deltanet, w.deltanet), "dense feed-forwards": (s.dense, w.dense),
        "routed experts": (s.moe * s.experts, w.expert),
        "shared experts and routers": (s.moe, w.shared), "embedding table": (1.0, w.embedding),
        "output head": (1.0, w.head), "norms": (1.0, w.norms),
    }  # fmt: skip
    return _sorted(
        Item(name=name, count=_plain(count), amount=_plain(count * each))
        for name, (count, each) in kinds.items()
    )


def bill_items(design: FabricDesign, name: str) -> tuple[Item, ...]:
    """Return the lines of a network's bill, for its likely price and its power alone."""
    column = {"price_usd.value": "total_usd", "power_w": "power_w"}.get(name)
    if column is None:
        return ()
    return _sorted(
        Item(name=it.name, count=float(it.count), amount=getattr(it, column))
        for it in design.bill_of_materials
    )


def _share(part: Num, whole: Num) -> float:
    return _plain(part) / _plain(whole) if _plain(whole) else 0.0


def _plain(value: Num) -> float:
    return float(np.asarray(value))


def _sorted(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted((it for it in items if it.amount), key=lambda it: -abs(it.amount)))
