"""What tuning on the cards one has takes: hours, dollars, energy and carbon, each as a range.

A step is the step of training every weight with every layer recomputed, less what a frozen base
saves. Ranges are drawn as a plan's are (`crore.cost.outlay`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from crore.catalog.economics import Economics, load_economics
from crore.cost import Shape, fitted_constants, interval, parameters, step_time
from crore.cost.evidence import calibrated_part
from crore.cost.finetune import LORA_RANK, training_job
from crore.cost.job import Job
from crore.cost.linears import adapter_parameters, linear_elements, linears
from crore.cost.outlay import RUN, Assumption, Basis, Subject, Taken, assumptions, taken
from crore.cost.sampling import DRAWS
from crore.cost.serving import Format, weight_bytes
from crore.cost.step_layers import HALF
from crore.cost.step_time import StepTime
from crore.plan.economy import SERVER_GPUS, shares_of
from crore.plan.fit_modes import Cards, Mode
from crore.plan.request import DAY_S

DEFAULT_TOKENS: Final = 10_000_000
"""About two passes over a set of 50,000 questions and answers of 100 tokens."""
MOST_SEQUENCES: Final = 16
"""Sequences of a step on a card, where as many fit: QLoRA's batch (arXiv 2305.14314, table 9)."""
ADAPTER_WIDTH: Final = 0.35
"""Log width added for adapters, whose kernels no calibration run used (judgement, not fitted)."""
PASSES: Final = 3
"""Times a step uses each weight: forward, once more, backward."""
FIGURES: Final = ("cost_usd", "electricity_usd", "rental_usd", "power_w", "energy_j", "co2_kg")
"""Of `crore.cost.outlay`, those told."""
BOARD: Final = ("idle_share", "message_share")
SEED: Final = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """One way of training that fits, and what it takes."""

    mode: str
    tokens: int
    batch: int
    """Sequences of a step on one card."""
    base: Format | None
    """Of the frozen weights; None where every weight is trained."""
    job: Job
    """A step of training every weight, which this one is less than."""
    step_split_s: Mapping[str, float]
    """Of a step, by part."""
    steps: float
    run_s: tuple[float, float, float]
    """Of all tokens: 80 % interval and its value."""
    taken: Mapping[str, Taken | None]
    """By FIGURES; None where a price or a board limit is unknown."""
    ranges: Mapping[str, Assumption]
    """Every assumption they depend on."""
    units: Mapping[str, str]
    """Of these, by name."""


def tuning(
    cards: Cards, mode: Mode, shape: Shape, *, context: int, batch: int, tokens: int
) -> Tuning | None:
    """Return what training on `tokens` takes where `batch` sequences fit on a card.

    None on a CPU, where `crore tune` measures. Left out: failures, and messages of several cards
    beyond those of training every weight.
    """
    part = cards.accelerator
    if part.cpu or not batch:
        return None
    each = min(batch, MOST_SEQUENCES)
    gpus = float(np.asarray(cards.gpus))
    job = training_job(
        shape, part, cards.half, tokens=float(context), batch=float(each), cards=gpus
    )
    time = step_time(job, fitted_constants())
    parts = step_parts(job, time, mode.stored)
    steps = tokens / (each * context * gpus)
    low, high = (
        float(s) / float(time.step_s) for s in interval(job, time, calibrated_part(part.name))
    )
    width = ADAPTER_WIDTH if mode.stored is not None else 0.0
    run_s = steps * sum(parts.values())
    span = (run_s * wider(low, width), run_s, run_s * wider(high, width))
    it = _subject(cards, parts, span, float(time.model_flops) * gpus * steps, float(tokens))
    book = load_economics().of(part.name)
    ranges = assumptions(it, book, part.name)
    ranges[RUN] = Assumption(
        spread=span, source="80 % interval of the step, of adapters wider by judgement"
    )
    found = taken(it, ranges, draws=DRAWS, seed=SEED)
    return Tuning(
        mode=mode.name, tokens=tokens, batch=each, base=mode.stored, job=job, step_split_s=parts,
        steps=steps, run_s=span,
        taken={name: found.get(name) for name in FIGURES}, ranges=ranges,
        units={name: _unit(book, part.name, name) for name in ranges},
    )  # fmt: skip


def _unit(book: Economics, accelerator: str, name: str) -> str:
    rental = book.rental(accelerator)
    if name == "rental" and rental is not None:
        return rental.unit
    if name == RUN:
        return "s"
    return "share of the board limit" if name in BOARD else book.figure(name).unit


def wider(ratio: float, width: float) -> float:
    """Return an end of an interval with an independent contribution added in squares."""
    whole = float(np.hypot(np.log(ratio), width))
    return float(np.exp(np.sign(np.log(ratio)) * whole))


def step_parts(job: Job, time: StepTime, base: Format | None) -> dict[str, float]:
    """Return seconds of a step by part; a frozen `base` has no gradients of weights to make.

    Those are a third of the products, recompute apart, and nearly all of the optimizer. A base in
    fewer bits is written out to 16 each time it is used. Left out: the adapters' own products,
    and that the head's gradient is not made either.
    """
    parts = {name: float(seconds) for name, seconds in time.parts.items()}
    if base is None:
        return parts
    found = linears(job.shape)
    moving = float(adapter_parameters(found, LORA_RANK)) / float(parameters(job.shape))
    parts["products"] *= 2 / 3
    parts["optimizer"] *= moving
    if base.bytes_per_weight < HALF:
        rate = np.asarray(job.machine.memory_bytes_per_s)
        packed = float(weight_bytes(job.shape, base, found))
        written = HALF * float(linear_elements(found))
        parts["memory passes"] += PASSES * (packed + written) / float(rate)
    return parts


def _subject(
    cards: Cards, parts: Mapping[str, float], run_s: tuple[float, float, float], flops: float,
    tokens: float,
) -> Subject:  # fmt: skip
    part, gpus = cards.accelerator, float(np.asarray(cards.gpus))
    home = not part.nic_bytes_per_s and gpus <= SERVER_GPUS
    basis: Basis = "unknown"
    if part.price_usd and part.tdp_w:
        basis = "card" if home else "owned"
    elif load_economics().of(part.name).rental(part.name) is not None:
        basis = "rented"
    busy, talking = shares_of(parts)
    return Subject(
        gpus=gpus, tdp_w=part.tdp_w, price_usd=part.price_usd, busy=busy, talking=talking,
        run_s=run_s, flops=flops, tokens=tokens, at_home=home, basis=basis,
    )  # fmt: skip


def tuning_record(it: Tuning) -> dict[str, Any]:
    """Return the answer as a part of the JSON document."""
    low, value, high = (seconds / DAY_S for seconds in it.run_s)
    return {
        "mode": it.mode,
        "tokens": it.tokens,
        "batch": it.batch,
        "days": {"value": value, "low": low, "high": high},
        **{name: None if one is None else _taken_record(one) for name, one in it.taken.items()},
        "assumptions": {
            name: {"low": one.spread[0], "value": one.spread[1], "high": one.spread[2],
                   "unit": it.units[name], "source": one.source}
            for name, one in it.ranges.items()
        },
    }  # fmt: skip


def _taken_record(one: Taken) -> dict[str, Any]:
    mover = {
        "name": one.mover, "low": one.mover_low, "high": one.mover_high, "source": one.source,
    }  # fmt: skip
    return {
        **{end: getattr(one, end) for end in ("p10", "p50", "p90", "likely")},
        "moved_by": mover if one.mover else None,
    }
