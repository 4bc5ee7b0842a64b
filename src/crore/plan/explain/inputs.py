"""Where an input comes from: the request, a catalogue row, a fitted constant, the code, a number.

An input is asked for by one word: `gpu:tdp_w`, `machine:linear_peak`, `model:layers`,
`stack:weight_bytes`, `wan:port_bytes_per_s`, `economics:pue`, `supply:announced.buyer_share`,
`part:dsp.price_usd`, `rental:h100-sxm`, `fitted:nic_share`, `width:base_width`,
`const:crore.cost.goodput.DISK`; anything else is the key of a number of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from crore.catalog import Accelerator, Cluster, Fabric, ModelSpec, Provenance
from crore.catalog.economics import load_economics
from crore.catalog.parts import parts
from crore.catalog.supply import scenario
from crore.cost import Constants, Job, fitted_constants
from crore.cost.constants import fitted_rows
from crore.cost.machine import HOME_NETWORK, Machine
from crore.cost.step_time import step_time
from crore.plan.explain.again import Case
from crore.plan.explain.notes import constant, field_note

NUDGE: Final = 0.01
"""By how much a rate or constant is raised to see what it moves."""
VISIBLE: Final = 1e-4
"""Elasticities below this are not shown: one percent moves the number by less than a millionth."""
RATES: Final = (
    "half_peak", "half_measured", "linear_peak", "linear_measured", "watts_per_tflops", "sms",
    "memory_bytes_per_s", "domain_bytes_per_s", "nic_bytes_per_s", "host_bytes_per_s",
    "hop_latency_s",
)  # fmt: skip
_ROW_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "watts_per_tflops": ("tdp_w",), "memory_bytes": ("memory_mib", "memory_gib", "memory_gb"),
    "memory_bytes_per_s": ("memory_tb_per_s",), "domain_bytes_per_s": ("domain_gb_per_s",),
    "nic_bytes_per_s": ("nic_gbit_per_s",), "host_bytes_per_s": ("host_gb_per_s",),
}  # fmt: skip
"""Field of a record -> what the data file calls it, where the two differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """One thing a number is made of."""

    name: str
    value: float | str | tuple[float, ...]
    origin: str
    """Where it comes from: request, catalogue row with its source, fit, code, or the plan."""
    key: str = ""
    """What `crore explain` calls it, where it is computed in its turn."""
    verified: bool | None = None
    """Of a catalogue figure: whether it was read in the source; None for others."""
    effect: float | None = None
    """Percent the number moves when this is one percent larger, where it was tried."""


class Asked(Protocol):
    """What machine and model inputs are rows of."""

    @property
    def accelerator(self) -> Accelerator:
        """The GPU."""

    @property
    def model(self) -> ModelSpec:
        """The model."""

    @property
    def precision(self) -> str:
        """Format of the linear layers."""

    @property
    def cluster(self) -> Cluster | None:
        """The machine, where it is named as a whole."""

    @property
    def fabric(self) -> Fabric | None:
        """The network, where one is named."""


class Subject(Protocol):
    """What is explained: a plan made again, or tuning on one's own cards."""

    @property
    def question(self) -> Asked:
        """What was asked."""

    @property
    def job(self) -> Job:
        """The question put to the cost model."""


def input_of(case: Case, word: str) -> Input:
    """Return what a word of a plan's table stands for (not a number: the table knows those)."""
    kind, _, name = word.partition(":")
    return _OF_PLANS[kind](case, name) if kind in _OF_PLANS else shared_input(case, word)


def shared_input(subject: Subject, word: str) -> Input:
    """Return what a word stands for, of those that plans and fits share."""
    kind, _, name = word.partition(":")
    return _KINDS[kind](subject, name)


def is_number(word: str) -> bool:
    """True when a word is the key of a number of the file."""
    return word.partition(":")[0] not in {*_KINDS, *_OF_PLANS}


def row_origin(what: str, it: Provenance, *figures: str) -> tuple[str, bool]:
    """Return (catalogue row, its source, date) of a figure and whether it was read there."""
    own = next((it.figures[name] for name in figures if name in it.figures), "")
    source = own or f"{it.source}, {it.date}"
    verified = it.verified and "recalled" not in own
    read = "read in the source" if verified else "quoted second hand"
    return f"catalogue, {what}: {source}; {read}", verified


def _gpu(case: Subject, name: str) -> Input:
    part = case.question.accelerator
    owner, _, member = name.partition(".")
    value = getattr(part, owner)
    figures = [name, *_ROW_KEYS.get(owner, ())]
    if member:
        value = value.get(member, 0.0)
        figures += [f"{member}_tflops", f"matmul_{member}_tflops"]
    origin, verified = row_origin(f"GPU {part.name}", part.provenance, *figures)
    return Input(name=name, value=value, origin=origin, verified=verified)


def _machine(case: Subject, name: str) -> Input:
    value = float(np.asarray(getattr(case.job.machine, name)))
    origin, verified = machine_origin(case.question, name)
    return Input(name=name, value=value, origin=origin, verified=verified)


def machine_origin(q: Asked, name: str) -> tuple[str, bool | None]:
    """Return where a column of the machine comes from: GPU, cluster, fabric, or the code."""
    part = q.accelerator
    if name == "nic_bytes_per_s":
        if q.cluster and q.cluster.nic_bytes_per_s:
            return row_origin(f"cluster {q.cluster.name}", q.cluster.provenance)
        if q.fabric and q.fabric.port_bytes_per_s:
            return row_origin(f"fabric {q.fabric.name}", q.fabric.provenance)
        if not part.nic_bytes_per_s:
            note = constant("crore.cost.machine.HOME_NETWORK")[1]
            return f"assumed, {HOME_NETWORK:g} bytes/s a box: {note}", None
    if name == "hop_latency_s":
        if q.fabric:
            return row_origin(f"fabric {q.fabric.name}", q.fabric.provenance)
        return f"switches of the chosen fabric x HOP_S: {constant(_HOP)[1]}", None
    figures = [name, *_ROW_KEYS.get(name, ())]
    kind = {"linear": q.precision, "half": "bf16"}.get(name.partition("_")[0], "")
    kind = {"nvfp4": "fp4", "mxfp8": "fp8"}.get(kind, kind)
    figures.append(f"matmul_{kind}_tflops" if "measured" in name else f"{kind}_tflops")
    return row_origin(f"GPU {part.name}", part.provenance, *figures)


_HOP: Final = "crore.plan.network.HOP_S"


def _model(case: Subject, name: str) -> Input:
    model = case.question.model
    origin, verified = row_origin(f"model {model.name}", model.provenance, name)
    return Input(name=name, value=getattr(model, name), origin=origin, verified=verified)


def _stack(case: Case, name: str) -> Input:
    q = case.question
    note = field_note(type(q.stack), name)
    words = f" ({note})" if note else ""
    origin = f"trait of stack {q.stack_name}{words}: {q.abilities.source}"
    return Input(name=name, value=float(np.asarray(getattr(q.stack, name))), origin=origin)


def _wan(case: Case, name: str) -> Input:
    wan = case.question.wan
    origin, verified = row_origin(f"fabric {wan.name}", wan.provenance, name)
    return Input(name=name, value=getattr(wan, name), origin=origin, verified=verified)


def _economics(case: Subject, name: str) -> Input:
    part = case.question.accelerator.name
    book = load_economics()
    it = book.of(part).figure(name)
    whose = f" of {part}" if name in book.own.get(part, {}) else ""
    origin, verified = row_origin(f"figure {name}{whose}, {it.unit}", it.provenance)
    return Input(name=name, value=it.spread(), origin=origin, verified=verified)


def _supply(case: Subject, name: str) -> Input:
    del case
    key, _, figure = name.partition(".")
    it = scenario(key)
    if figure.startswith("cap "):
        cap = next(cap for cap in it.caps if f"cap {cap.name}" == figure)
        origin, verified = row_origin(f"scenario {key}, {cap.unit}", cap.provenance)
        return Input(name=figure, value=cap.knots[-1][1:], origin=origin, verified=verified)
    one = it.figure(figure)
    origin, verified = row_origin(f"scenario {key}, {figure}, {one.unit}", one.provenance)
    return Input(name=figure, value=one.spread(), origin=origin, verified=verified)


def _rental(case: Subject, name: str) -> Input:
    del case
    it = load_economics().rentals[name]
    origin, verified = row_origin(f"rental {name}, {it.unit}", it.provenance)
    return Input(name="rental", value=it.spread(), origin=origin, verified=verified)


def _part(case: Subject, name: str) -> Input:
    del case
    key, _, field = name.rpartition(".")
    it = parts()[key]
    value = getattr(it, field)
    shown = (value.low, value.value, value.high) if field == "price_usd" else value
    origin, verified = row_origin(f"part {key}", it.provenance, field)
    return Input(name=name, value=shown, origin=origin, verified=verified)


def _fitted(case: Subject, name: str) -> Input:
    row, seen = fitted_rows()["constants"][name], fitted_rows()["calibration"]
    value = fitted_constants().by_stack(name, case.job.stack.code) if _per_stack(name) else None
    plain = getattr(fitted_constants(), name) if value is None else float(np.asarray(value))
    note = field_note(Constants, name).rstrip(".")
    low, high = row["bounds"]
    origin = (
        f"fitted on {seen['fitted_on']}, within {low:g} to {high:g}, from {row['prior']} "
        f"({row['prior_source']}){': ' + note if note else ''}"
    )
    return Input(name=name, value=plain, origin=origin)


def _per_stack(name: str) -> bool:
    return isinstance(getattr(fitted_constants(), name), tuple)


def _width(case: Subject, name: str) -> Input:
    del case
    row = fitted_rows()["widths"][name]
    return Input(name=name, value=row["value"], origin=f"set on left-out families: {row['what']}")


def _const(case: Subject, name: str) -> Input:
    del case
    value, note = constant(name)
    return Input(
        name=name.rpartition(".")[2], value=value, origin=f"constant {name}{note and ': '}{note}"
    )


_OF_PLANS: Final[Mapping[str, Callable[[Case, str], Input]]] = {"stack": _stack, "wan": _wan}
_KINDS: Final[Mapping[str, Callable[[Subject, str], Input]]] = {
    "gpu": _gpu, "machine": _machine, "model": _model, "economics": _economics, "supply": _supply,
    "rental": _rental, "part": _part, "fitted": _fitted, "width": _width, "const": _const,
}  # fmt: skip
Seconds = Callable[[Machine, Constants], float]
"""Of a step, or of a part of one, on a machine with constants."""


def movers(case: Case, part: str = "") -> tuple[Input, ...]:
    """Return the fitted constants and machine rates that move a step, or a part of one."""
    return moved_by(case, case.pricer.constants, partial(_seconds, case, part))


def moved_by(subject: Subject, constants: Constants, seconds: Seconds) -> tuple[Input, ...]:
    """Return the fitted constants and machine rates that move `seconds`, most first.

    Each is raised by NUDGE and the step priced again: what has no effect is not in the number.
    """
    base = seconds(subject.job.machine, constants)
    if not base:
        return ()
    found = []
    for word, machine, raised in _nudged(subject.job, constants):
        effect = (seconds(machine, raised) / base - 1) / NUDGE
        if abs(effect) > VISIBLE:
            found.append(replace(shared_input(subject, word), effect=effect))
    return tuple(sorted(found, key=lambda it: -abs(it.effect or 0.0)))


def _nudged(job: Job, c: Constants) -> list[tuple[str, Machine, Constants]]:
    raised: list[tuple[str, Machine, Constants]] = []
    for name in fitted_rows()["constants"]:
        value: Any = getattr(c, name)
        more: Any = value * (1 + NUDGE) if not _per_stack(name) else _raised(value)
        raised.append((f"fitted:{name}", job.machine, replace(c, **{name: more})))
    for name in RATES:
        rate: Any = getattr(job.machine, name) * (1 + NUDGE)
        raised.append((f"machine:{name}", replace(job.machine, **{name: rate}), c))
    return raised


def _raised(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value * (1 + NUDGE) for value in values)


def _seconds(case: Case, part: str, machine: Machine, constants: Constants) -> float:
    made = step_time(replace(case.job, machine=machine), constants, case.ops)
    return float(np.asarray(made.parts[part] if part else made.step_s))
