"""What each knob of a layout may be set to, for one question: hardware, stack and pins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crore.cost.layout import OPTIMIZERS, RECOMPUTE, ZERO
from crore.cost.machine import BOX
from crore.cost.schedules import SCHEDULE_NAMES, schedule_code
from crore.errors import InputError, UnknownName
from crore.plan.request import Question

GRID: Final = ("tp", "pp", "cp", "ep", "etp", "micro_batch", "sequence_parallel")
"""Axes that decide what one micro-batch costs on one rank."""
MICRO_BATCHES: Final = (1, 2, 4, 8, 16)
CHUNKS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
SHORTEST_PART: Final = 512
"""Tokens every context-parallel rank keeps at least; shorter parts starve the attention kernels."""
LARGEST_CONTEXT: Final = 64
LARGEST_PIPELINE: Final = 1024
OFFLOADS: Final = ("none", "optimizer", "activations", "both")
PINNED_ELSEWHERE: Final = ("precision", "global_batch", "seq_len")
OF_A_FLEET: Final = ("islands", "worlds", "interval", "outer_bits")
"""Pins that mean nothing in one world."""
"""Pins that only several worlds can obey; 1 asks for nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """Values to try, before any rule is applied."""

    grid: Mapping[str, list[int]]
    """GRID axis -> values."""
    pipelines: list[tuple[int, int]]
    """(schedule row, chunks per rank)."""
    zero: list[int]
    recompute: list[int]
    """Modes, index into RECOMPUTE."""
    recompute_layers: int
    """Layers that full recompute redoes: a pinned count, -1 for all, 0 when it is searched."""
    offload: list[int]
    """Index into OFFLOADS."""
    pins: Mapping[str, int]


def divisors(number: int, largest: int) -> list[int]:
    """Return the divisors of `number` up to `largest`, rising."""
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return [d for d in sorted({*low, *(number // d for d in low)}) if d <= largest]


def pins_of(q: Question) -> dict[str, int]:
    """Return pinned axes as numbers; words are looked up in their tables.

    Raises UnknownName for a word no table holds, InputError for a ZeRO stage there is none of and
    for replicas that are no multiple of the pinned worlds.
    """
    words: Mapping[str, tuple[str, ...]] = {
        "recompute": RECOMPUTE,
        "schedule": SCHEDULE_NAMES,
        "offload": OFFLOADS,
        "optimizer": OPTIMIZERS,
    }
    pins: dict[str, int] = {}
    for key, value in q.request.fix.items():
        if key in words:
            if value not in words[key]:
                raise UnknownName(f"{key} in --fix", str(value), words[key])
            pins[key] = words[key].index(str(value))
        elif key not in PINNED_ELSEWHERE:
            pins[key] = int(value)
    if not 0 <= pins.get("zero", 0) < len(ZERO):
        raise InputError(f"--fix zero={pins['zero']}: ZeRO stages are 0, 1, 2 and 3")
    return _inside_a_world(pins) if q.is_fleet else pins


def _inside_a_world(pins: dict[str, int]) -> dict[str, int]:
    """Return pins with replicas counted inside a world: worlds replicate each other too."""
    if "dp_replicate" in pins:
        worlds = pins.setdefault("worlds", pins["dp_replicate"])
        if pins["dp_replicate"] % worlds:
            raise InputError(
                f"--fix dp_replicate={pins['dp_replicate']} is no multiple of worlds={worlds}"
            )
        pins["dp_replicate"] //= worlds
    return pins


def axes_of(q: Question) -> Axes:
    """Return the values each knob may take for a question."""
    pins = pins_of(q)
    able = q.abilities
    grid = {name: [pins[name]] if name in pins else _grid_values(q, name) for name in GRID}
    return Axes(
        grid=grid,
        pipelines=_pipelines(q, pins),
        zero=[pins["zero"]] if "zero" in pins else list(able.zero),
        recompute=_recompute_modes(q, pins),
        recompute_layers=pins.get("recompute_layers", -1 if "recompute" in pins else 0),
        offload=[pins["offload"]] if "offload" in pins else _offloads(able.offload),
        pins=pins,
    )


def _grid_values(q: Question, name: str) -> list[int]:
    gpu, model = q.accelerator, q.model
    if name in ("tp", "pp", "cp", "ep") and name not in q.abilities.axes:
        return [1]
    reach = gpu.domain_size if gpu.domain_size > 1 else max(gpu.node_size, BOX)
    if name == "tp":
        return divisors(model.heads if q.is_fleet else q.gpus, max(reach, 1))
    if name == "pp":
        largest = min(model.layers, LARGEST_PIPELINE)
        return _even_pipelines(model.layers, largest) if q.is_fleet else divisors(q.gpus, largest)
    if name == "cp":
        contexts = _powers(LARGEST_CONTEXT) if q.is_fleet else divisors(q.gpus, LARGEST_CONTEXT)
        return [c for c in contexts if c == 1 or q.seq_len // c >= SHORTEST_PART]
    if name == "ep":
        return divisors(model.experts, q.gpus) if model.experts else [1]
    if name == "etp":
        return _expert_tensor(q)
    if name == "micro_batch":
        return [b for b in MICRO_BATCHES if b <= q.global_batch]
    return [0, 1]


def _expert_tensor(q: Question) -> list[int]:
    """Tensor parallelism inside an expert: none, or (0) as the rest of the layer."""
    if not q.model.experts:
        return [1]
    return [0] if q.stack.expert_tp else [1, 0]


def _even_pipelines(layers: int, largest: int) -> list[int]:
    """Return one pipeline length per stage size: a longer one of the same size only idles."""
    lengths = {math.ceil(layers / pp): pp for pp in range(largest, 0, -1)}
    return sorted(lengths.values())


def _powers(largest: int) -> list[int]:
    return [2**k for k in range(largest.bit_length()) if 2**k <= largest]


def _pipelines(q: Question, pins: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return (schedule, chunks): interleaving with its counts of chunks, the others with one."""
    interleaved = schedule_code("interleaved")
    codes = [schedule_code(name) for name in q.abilities.schedules]
    if "schedule" in pins:
        codes = [pins["schedule"]]
    pairs = []
    for code in codes:
        chunks: tuple[int, ...] = CHUNKS if code == interleaved else (1,)
        if "vpp" in pins:
            # A pinned count of chunks above one asks for interleaving; one asks for anything else.
            fits = (code == interleaved) == (pins["vpp"] > 1) or "schedule" in pins
            chunks = (pins["vpp"],) if fits else ()
        pairs += [(code, chunk) for chunk in chunks]
    return pairs


def _recompute_modes(q: Question, pins: Mapping[str, int]) -> list[int]:
    """Modes worth trying: beside a flash kernel that keeps all else, selective saves nothing.

    A pinned count of layers is one of full recompute.
    """
    if "recompute" in pins:
        return [pins["recompute"]]
    if "recompute_layers" in pins:
        return [RECOMPUTE.index("full")]
    idle = bool(q.stack.flash) and float(q.stack.selective_kept) == 1.0
    return [k for k, name in enumerate(RECOMPUTE) if not (idle and name == "selective")]


def _offloads(able: tuple[str, ...]) -> list[int]:
    """Return the settings that the stack's two abilities combine to."""
    allowed = {"none", *able} | ({"both"} if len(able) > 1 else set())
    return [k for k, name in enumerate(OFFLOADS) if name in allowed]
