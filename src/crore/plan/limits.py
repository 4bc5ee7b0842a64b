"""What else can bind: each limit with its number, the plan's number, and whether it binds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from crore.cost import active_parameters, parameters
from crore.cost.batch import critical_batch
from crore.cost.goodput import DISK
from crore.cost.latency import latency_floor_s
from crore.cost.machine import Machine
from crore.cost.readiness import (
    STOCK_TOKENS,
    checkpoint_write_bytes_per_s,
    data_epochs,
    input_bytes_per_s,
    startup_s,
)
from crore.plan.axes import pins_of
from crore.plan.candidates import Candidates
from crore.plan.fleet import Rounds, recovery_of, wan_bytes_per_s
from crore.plan.pricing import timed
from crore.plan.request import Question

EPOCHS: Final = 4.0
"""Passes over the same text that are worth nearly as much as new text (arXiv 2305.16264)."""
WRITE_SHARE: Final = 0.1
"""Of the time between two checkpoints, what writing one may take; estimate."""
QUORUM_INTERVAL_S: Final = 3600.0
"""Between two checkpoints of a run that heals from peers; they only insure it; estimate."""
STORE_BYTES_PER_S_PER_GPU: Final = 2e12 / 16_384
"""What a large store takes, per GPU: Llama 3's Tectonic sustained 2 TB/s for 16,384 GPUs, 7 TB/s at
its peak (arXiv 2407.21783 §3.3.1)."""
STARTUP_SHARE: Final = 0.5
"""Of the mean time between failures: a world that takes longer to start hardly ever runs."""
BATCH_SAVES: Final = 0.1
"""Share of the time per token that twice the batch would save, from which on the batch binds."""
LATENCY_SHARE: Final = 0.2
"""Of a step: above, waiting for messages to travel is what more GPUs would buy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One limit of a plan; `value` and `limit` in `unit`."""

    name: str
    value: float
    limit: float
    unit: str
    binds: bool
    note: str


def limits_of(
    q: Question,
    chosen: Candidates,
    machine: Machine,
    step_s: float,
    peak_bytes: float,
    mtbf_s: float,
    rounds: Rounds,
) -> tuple[Limit, ...]:
    """Return every limit that was checked, the ones that bind first."""
    found = [
        _memory(q, peak_bytes),
        _parallel(q, chosen, machine, step_s),
        *_batch(q, chosen),
        _data(q),
        *_storage(q, chosen, step_s, mtbf_s),
        _startup(chosen, mtbf_s),
        _latency(q, chosen, step_s),
        *_outer(q, chosen, rounds, step_s),
    ]
    return tuple(sorted(found, key=lambda limit: not limit.binds))


def _memory(q: Question, peak_bytes: float) -> Limit:
    share = 0.9
    return Limit(
        name="memory", value=peak_bytes, limit=q.memory_bytes, unit="bytes per GPU",
        binds=peak_bytes > share * q.memory_bytes,
        note=f"binds above {share:.0%}: more memory would allow a faster layout",
    )  # fmt: skip


def _parallel(q: Question, chosen: Candidates, machine: Machine, step_s: float) -> Limit:
    """Too few sequences a step to keep every GPU busy: twice as many would take less than twice."""
    time = timed(q, replace(chosen, batch=2 * chosen.batch), machine)
    saved = 1 - float(time.step_s) / (2 * step_s)
    own = float(chosen.batch * chosen.islands) * q.seq_len
    idle = _idle_worlds(q, chosen)
    if idle:
        return Limit(
            name="global batch", value=own, limit=own * (1 + idle / float(chosen.worlds)),
            unit="tokens per step", binds=True,
            note=f"as many would also feed the {idle * int(chosen.islands):,} worlds left over",
        )  # fmt: skip
    return Limit(
        name="global batch", value=own, limit=own / (1 - saved) if saved > 0 else own,
        unit="tokens per step", binds=saved > BATCH_SAVES,
        note=f"twice the batch would take {saved:.0%} less time per token, on these GPUs",
    )  # fmt: skip


def _idle_worlds(q: Question, chosen: Candidates) -> int:
    """Return the worlds that an island has GPUs for and no sequences, unless they are pinned."""
    if not q.is_fleet or "worlds" in pins_of(q):
        return 0
    world = float(chosen.layout.gpus) / float(chosen.worlds)
    return int(q.gpus // int(chosen.islands) // world) - int(chosen.worlds)


def _batch(q: Question, chosen: Candidates) -> Iterator[Limit]:
    """The critical batch, by an ensemble of laws, for one island's own batch."""
    own = float(chosen.batch) * q.seq_len
    total, active = float(parameters(q.shape)), float(active_parameters(q.shape))
    low, middle, high = (float(x) for x in critical_batch(total, active, float(q.tokens)))
    yield Limit(
        name="critical batch", value=own, limit=middle, unit="tokens per step and island",
        binds=own > middle,
        note=f"laws say {low:.2g} to {high:.2g}; above it tokens buy less: D = D_min (1 + B/Bc)",
    )  # fmt: skip


def _data(q: Question) -> Limit:
    stock = float(q.request.stock_tokens or STOCK_TOKENS[1])
    epochs = float(data_epochs(float(q.tokens), stock))
    return Limit(
        name="data", value=float(q.tokens), limit=stock * EPOCHS, unit="tokens",
        binds=epochs > EPOCHS,
        note=f"{epochs:.2g} passes over {stock:.2g} tokens; four are nearly as good as new",
    )  # fmt: skip


def _storage(q: Question, chosen: Candidates, step_s: float, mtbf_s: float) -> Iterator[Limit]:
    gpus = float(chosen.layout.gpus * chosen.islands)
    room = STORE_BYTES_PER_S_PER_GPU * gpus
    tokens_per_s = float(chosen.batch * chosen.islands) * q.seq_len / step_s
    interval_s = _checkpoint_interval_s(q, mtbf_s)
    every = WRITE_SHARE * interval_s
    write = float(chosen.islands) * float(checkpoint_write_bytes_per_s(parameters(q.shape), every))
    for name, value, note in (
        ("input", float(input_bytes_per_s(tokens_per_s)), "4 bytes a token, each read once"),
        ("checkpoint", write, f"every island, in a tenth of {interval_s:,.0f} s between two"),
    ):
        yield Limit(
            name=f"{name} bandwidth", value=value, limit=room, unit="bytes/s", binds=value > room,
            note=f"{note}; storage of 2 TB/s per 16,384 GPUs assumed (arXiv 2407.21783)",
        )  # fmt: skip


def _checkpoint_interval_s(q: Question, mtbf_s: float) -> float:
    """Young's interval `sqrt(2·C·MTBF)`; at least QUORUM_INTERVAL_S where a quorum goes on."""
    young = math.sqrt(2 * DISK[0] * mtbf_s)
    return max(young, QUORUM_INTERVAL_S) if recovery_of(q) == "quorum" else young


def _startup(chosen: Candidates, mtbf_s: float) -> Limit:
    """A world that starts for as long as it runs; failures counted in one world."""
    world = float(chosen.layout.gpus / chosen.worlds)
    islands_gpus = float(chosen.layout.gpus * chosen.islands)
    alone_s = mtbf_s * islands_gpus / world
    value = float(startup_s(world))
    return Limit(
        name="start-up", value=value, limit=STARTUP_SHARE * alone_s, unit="s",
        binds=value > STARTUP_SHARE * alone_s,
        note=f"a world of {world:,.0f} fails every {alone_s:,.0f} s (communicators alone)",
    )  # fmt: skip


def _latency(q: Question, chosen: Candidates, step_s: float) -> Limit:
    floor = float(latency_floor_s(float(q.model.layers), float(chosen.layout.pp)))
    return Limit(
        name="latency wall", value=floor, limit=LATENCY_SHARE * step_s, unit="s per step",
        binds=floor > LATENCY_SHARE * step_s,
        note="kernels and messages of one pass at no size at all",
    )  # fmt: skip


def _outer(q: Question, chosen: Candidates, rounds: Rounds, step_s: float) -> Iterator[Limit]:
    if float(chosen.islands) == 1:
        return
    rate = float(wan_bytes_per_s(q, chosen))
    yield Limit(
        name="outer bandwidth", value=float(rounds.outer_s), limit=float(rounds.interval) * step_s,
        unit="s per outer step", binds=float(rounds.exposed_s) > 0,
        note=f"{rate * 8 / 1e12:.3g} Tbit/s between sites for each island ({q.wan.name})",
    )  # fmt: skip
