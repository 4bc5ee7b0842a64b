"""Every setting of a question priced one by one: what the search by bounds is held against.

And the missions it is held on, drawn by hypothesis or by a seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crore.cost.layout import layers_per_stage
from crore.plan.axes import Axes, axes_of
from crore.plan.best import FAMILY, TIE_ORDER
from crore.plan.candidates import Candidates, repeated, size, take
from crore.plan.fleet import run_s
from crore.plan.pricing import seconds_and_bytes
from crore.plan.request import Limits, PlanRequest, Question
from crore.plan.search import usable_bytes
from crore.plan.space import FULL_MODE, Cells, cells_of, obeying, settings, with_chain
from crore.plan.stack_rules import forbids_mode

CELLS = 1_000
"""Cells opened together."""
NOISE = 1e-12
"""Two prices this close are the same: NumPy's vector and scalar loops round powers and logarithms
differently, so a price depends in its last digits on what it is priced together with."""
Key = tuple[float, ...]
Choose = Callable[[Sequence[Any]], Any]


def every_cell(q: Question) -> Cells:
    """Return the cells of a question, none left out for its memory."""
    return cells_of(q, axes_of(q), lambda grid: np.ones(size(grid), dtype=bool))


def settings_of(q: Question, axes: Axes, cells: Candidates) -> Iterator[Candidates]:
    """Yield all settings inside cells that obey the rules: every mode, count and offload."""
    inside, _ = obeying(q, axes, settings(q, axes, cells))
    assert np.all(inside.layout.gpus * inside.islands <= q.gpus)
    assert np.all(inside.layout.gpus <= q.world_limit * inside.worlds)
    whole = inside
    for offload in axes.offload if size(whole) else ():
        for mode in axes.recompute:
            inside = take(whole, ~forbids_mode(q, whole, mode))
            stage = np.broadcast_to(layers_per_stage(inside.layout, q.shape.layers), size(inside))
            if mode != FULL_MODE or axes.recompute_layers:
                yield with_chain(inside, mode, float(axes.recompute_layers or -1), offload)
                continue
            if not size(inside):
                continue
            spread = repeated(inside, stage.astype(np.intp))
            layers = np.concatenate([np.arange(1.0, n + 1) for n in stage])
            yield with_chain(spread, FULL_MODE, layers, offload)


@dataclass(kw_only=True, slots=True)
class Brute:
    """The fastest setting of every family, of all settings that fit."""

    usable_bytes: float
    priced: int = 0
    fit: int = 0
    best: dict[Key, tuple[float, Key]] = field(default_factory=dict)
    """Family -> (run time, the rest of its key by which ties are settled)."""

    def add(self, q: Question, candidates: Candidates) -> None:
        """Price settings, and keep the fastest of each family that fits."""
        step_s, peak = seconds_and_bytes(q, candidates)
        run = run_s(q, candidates, step_s)
        self.priced += run.size
        fits = np.flatnonzero(peak <= self.usable_bytes)
        self.fit += fits.size
        if not fits.size:
            return
        families, rest = columns(candidates)
        kinds, which = np.unique(families[:, fits], axis=1, return_inverse=True)
        for kind in range(kinds.shape[1]):
            members = fits[np.ravel(which) == kind]
            near = members[run[members] <= run[members].min() * (1 + NOISE)]
            for index in near:
                self._offer(key(kinds[:, kind]), float(run[index]), key(rest[:, index]))

    def _offer(self, family: Key, run: float, rest: Key) -> None:
        known = self.best.get(family)
        if known is None or (run < known[0] * (1 - NOISE)):
            self.best[family] = (run, rest)
        elif run <= known[0] * (1 + NOISE):
            self.best[family] = (known[0], min(rest, known[1]))

    def ranked(self, top: int) -> list[tuple[float, Key, Key]]:
        """Return (run time, family, rest) of the fastest families."""
        return sorted((run, family, rest) for family, (run, rest) in self.best.items())[:top]


def key(column: np.ndarray) -> Key:
    return tuple(float(value) for value in column)


def columns(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return what makes a family, and what settles ties inside it, one column per candidate."""
    it, count = candidates.layout, size(candidates)
    family = [*(getattr(it, name) for name in FAMILY), np.equal(it.zero, 3), candidates.islands]
    rest = [candidates.worlds, *(getattr(it, name) for name in TIE_ORDER), it.dp_replicate]
    spread = (np.stack([np.broadcast_to(x, (count,)) for x in part]) for part in (family, rest))
    families, ties = (part.astype(float) for part in spread)
    return families, ties


def brute_force(q: Question) -> Brute:
    """Price every setting of a question."""
    axes, cells = axes_of(q), every_cell(q).candidates
    brute = Brute(usable_bytes=usable_bytes(q))
    for start in range(0, size(cells), CELLS):
        for part in settings_of(q, axes, take(cells, slice(start, start + CELLS))):
            brute.add(q, part)
    return brute


DENSE = ("gpt2-124m", "pythia-70m", "smollm2-135m", "qwen2.5-0.5b", "llama3.2-1b", "gemma2-2b",
         "megatron2020-1b", "falcon-7b", "llama3-8b", "llama3-70b-l12",
         "llama3.1-405b-l7")  # fmt: skip
SPARSE = ("olmoe-1b-7b", "deepseek-v2-lite", "deepseek-v3-l4", "grok1-314b-l2", "gpt-oss-20b",
          "deepseek-v2-l4")  # fmt: skip
MODELS = (*DENSE, *SPARSE)
MEMORY = {"a100-sxm-80gb": 85e9, "h100-sxm": 85e9, "gb200-nvl72": 186e9, "rtx-3090": 25e9}
STACKS = ("megatron-2025", "megatron-2025", "torchtitan", "torchtitan", "xla", "crore", "fsdp",
          "megatron-2021", "megatron-deepspeed", "bigscience-2022")  # fmt: skip
SHARES = (1.0, 1.0, 1.0, 0.5, 0.25, 0.12)
"""Of the part's memory: the smaller ones force recompute and offload."""
PINS: tuple[dict[str, int | str], ...] = (
    *({} for _ in range(16)),
    {"zero": 3}, {"tp": 2}, {"pp": 2}, {"recompute": "full"}, {"recompute": "none"},
    {"recompute": "full", "recompute_layers": 2}, {"recompute_layers": 3}, {"micro_batch": 2},
    {"offload": "optimizer"}, {"offload": "activations"}, {"zero": 1, "vpp": 2}, {"ep": 2},
    {"schedule": "dualpipe"}, {"schedule": "zb-h1"}, {"schedule": "gpipe"}, {"schedule": "zb-h2"},
    {"schedule": "dualpipe-v", "pp": 2}, {"zero": 3, "dp_shard": 2}, {"zero": 0},
    {"dp_replicate": 2}, {"optimizer": "muon"}, {"offload": "none"}, {"sequence_parallel": 1},
)  # fmt: skip
FLEET_PINS: tuple[dict[str, int | str], ...] = (
    {}, {}, {}, {"islands": 2}, {"islands": 1}, {"worlds": 2}, {"zero": 3}, {"interval": 100},
    {"outer_bits": 4}, {"zero": 3, "dp_shard": 2}, {"recompute": "full"}, {"tp": 2}, {"pp": 2},
    {"dp_replicate": 2},
)  # fmt: skip


def mission(choose: Choose, models: Sequence[str] = MODELS) -> PlanRequest:
    """Return a small mission of one world."""
    gpu, gpus = choose(tuple(MEMORY)), choose((1, 2, 3, 4, 6, 7, 8, 12, 16, 24, 31, 32, 36, 48))
    return PlanRequest(
        model=choose(models), gpu=gpu, gpus=gpus, stack=choose(STACKS), tokens=10**10,
        seq_len=choose((512, 1024)), global_batch=choose((1, 31, 2 * gpus, 4 * gpus, 12 * gpus)),
        top=choose((1, 1, 2, 4)), fix=choose(PINS),
        limits=Limits(memory_bytes=int(choose(SHARES) * MEMORY[gpu])),
    )  # fmt: skip


NARROW = ("h100-sxm", "gb200-nvl72")
"""Parts with 8-bit products."""
CRORE_PINS: tuple[dict[str, int | str], ...] = (
    *({} for _ in range(12)),
    {"schedule": "zb-v"}, {"schedule": "zb-v", "pp": 2}, {"schedule": "zb-v", "recompute": "light"},
    {"schedule": "zb-v", "pp": 2, "recompute": "selective"}, {"schedule": "zb-v", "zero": 3},
    {"schedule": "interleaved", "pp": 2}, {"schedule": "gpipe", "pp": 4}, {"schedule": "zb-h1"},
    {"tp": 2, "cp": 2}, {"pp": 4}, {"recompute": "light"}, {"recompute": "full"}, {"etp": 2},
    {"zero": 3, "dp_shard": 2}, {"ep": 4, "zero": 3}, {"pp": 2, "recompute_layers": 1},
)  # fmt: skip


def crore_mission(choose: Choose, models: Sequence[str] = MODELS) -> PlanRequest:
    """Return a small mission of one world of this project's trainer, whose code has most rules."""
    drawn = mission(choose, models)
    formats = ("bf16", "fp32", "fp8") if drawn.gpu in NARROW else ("bf16", "fp32")
    return replace(
        drawn, stack="crore", fix=choose(CRORE_PINS), precision=choose(formats),
        global_batch=choose((1, 31, drawn.gpus, 4 * drawn.gpus, 12 * drawn.gpus)),
    )  # fmt: skip


def large_mission(choose: Choose) -> PlanRequest:
    """Return a mission with many settings: MoE or dense models on dozens of GPUs."""
    gpu, gpus = choose(("a100-sxm-80gb", "h100-sxm")), choose((24, 32, 40, 48, 64))
    return PlanRequest(
        model=choose(("llama3-8b", "olmoe-1b-7b", "mixtral-8x7b", "deepseek-v2-lite", "qwen3-8b")),
        gpu=gpu, gpus=gpus, stack=choose(("megatron-2025", "torchtitan", "xla")), tokens=10**11,
        seq_len=4096, global_batch=2 * gpus, top=choose((1, 3)),
        limits=Limits(memory_bytes=int(choose((1.0, 0.4, 0.25)) * MEMORY[gpu])),
    )  # fmt: skip


def fleet(choose: Choose, models: Sequence[str] = MODELS) -> PlanRequest:
    """Return a mission of several small worlds, in islands where its sites say so."""
    gpu = choose(tuple(MEMORY))
    return PlanRequest(
        model=choose(models), gpu=gpu, gpus=choose((20, 24, 40, 64, 100, 129, 1000)), stack="crore",
        tokens=10**10, seq_len=choose((512, 1024)), global_batch=choose((64, 100, 256, 1000)),
        top=choose((1, 1, 2, 4)), sites=choose((0, 1, 2, 3, 20)), fix=choose(FLEET_PINS),
        wan=choose(("wan-metro", "wan-ocean")),
        limits=Limits(
            memory_bytes=int(choose(SHARES) * MEMORY[gpu]), world_gpus=choose((4, 6, 8, 16))
        ),
    )  # fmt: skip
