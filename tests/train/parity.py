"""A layout against one process: losses, gradient norms and final weights of the same few steps.

The parts are those of a run: engine, optimizer, gradient norm and clipping.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from tests.train.gloo import run
from torch import Tensor, nn

from crore.catalog.types import ModelSpec
from crore.model.mesh import make_world
from crore.model.mixture import Mixture, mixtures
from crore.model.parallelize import BuildOptions
from crore.model.refuse import check_runnable
from crore.model.split import Split
from crore.train.clip import norm_share, scale_
from crore.train.engine import Engine
from crore.train.local import whole
from crore.train.optim import Optimizer, OptimSettings, build_optimizer

SEQ_LEN, BATCH, STEPS = 32, 16, 5
LEAST_FALL: Final = 0.05
"""Share of the loss that the steps must take off it."""
MAX_NORM: Final = 0.5
"""Below the norm of every step, so that clipping takes part."""
SETTINGS: Final = OptimSettings(lr=3e-3, eps=1e-4)
"""Elements of a clipped gradient are about 1e-3. A smaller eps would make full steps of those that
are rounding alone, and so make of 1e-7 in a gradient 1e-3 in the next."""
CPU: Final = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One layout of one model."""

    name: str
    model: str
    """What the model is, in words."""
    spec: ModelSpec
    split: Split
    options: BuildOptions = field(default_factory=BuildOptions)
    within: float = 1e-4
    """Largest difference allowed: nats of loss, share of the norm, weights as they are."""

    @property
    def alone(self) -> Case:
        """The same model on one rank, not compiled."""
        split = Split(micro_batch=BATCH, precision=self.split.precision)
        options = BuildOptions(seed=self.options.seed, mtp=self.options.mtp)
        return Case(name="alone", model=self.model, spec=self.spec, split=split, options=options)

    def refuse(self) -> None:
        """Raise InputError if crore does not run it."""
        check_runnable(
            self.spec, self.split, seq_len=SEQ_LEN, global_batch=BATCH, device="cpu",
            compiled=self.options.compiled, mtp=self.options.mtp, ring=self.options.ring,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What some steps came to, as one rank sees it."""

    losses: list[float]
    """Nats per token of each step, before its update."""
    norms: list[float]
    weights: dict[str, Tensor]
    """What this rank holds a part of, gathered whole; the routers' biases with it."""
    closest: float
    """Smallest lead of a chosen expert's score over the next one; infinite without experts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The largest differences over all steps, ranks and weights."""

    loss: float
    """Nats per token."""
    norm: float
    """Share of the norm of one process."""
    weight: float
    first: float
    """Loss of one process at the first step, nats per token."""
    last: float
    """The same at the last step."""

    @property
    def largest(self) -> float:
        """The largest of the three."""
        return max(self.loss, self.norm, self.weight)

    @property
    def fall(self) -> float:
        """Share of the loss that one process lost on the way."""
        return 1 - self.last / self.first


def batch(vocab: int) -> Tensor:
    """Return the tokens [BATCH, SEQ_LEN + 1] of every step, to be learnt by heart."""
    draw = torch.Generator().manual_seed(100)
    return torch.randint(0, vocab, (BATCH, SEQ_LEN + 1), generator=draw)


def build(case: Case) -> tuple[Engine, Optimizer]:
    """Return a case's engine and optimizer on this rank of the default group, or alone."""
    spec = case.spec
    world = make_world(case.split, CPU, experts=spec.experts > 0, tied=spec.tied_embeddings)
    engine = Engine(
        spec, SEQ_LEN, world, case.options, global_batch=BATCH,
        z_weight=1e-4, router_z_weight=1e-3,
    )  # fmt: skip
    return engine, build_optimizer("adamw", dict(engine.named_parameters()), SETTINGS)


def train(case: Case) -> Trained:
    """Train some steps on this rank."""
    engine, optimizer = build(case)
    leads = [math.inf]
    if case.split.ranks == 1:
        _watch(engine, leads)
    steps = [make_step(engine, optimizer) for _ in range(STEPS)]
    weights: dict[str, Tensor] = dict(engine.named_parameters())
    for part in engine.parts:
        weights |= {name: b for name, b in part.named_buffers() if name.endswith("balance")}
    return Trained(
        losses=[loss for loss, _ in steps],
        norms=[norm for _, norm in steps],
        weights={name: whole(weight.detach()).clone() for name, weight in weights.items()},
        closest=min(leads),
    )


def make_step(engine: Engine, optimizer: Optimizer) -> tuple[float, float]:
    """Make one step; return its loss (nats per token) and gradient norm over all ranks."""
    optimizer.zero_grad()
    engine.backward(batch(engine.spec.vocab)[engine.rows])
    named, split = dict(engine.named_parameters()), engine.world.split
    assert all(p.grad is not None for p in named.values()), "a weight got no gradient"
    ranks = split.ranks // split.pp
    further = {name: ranks * stages for name, stages in engine.copies().items()}
    both = torch.stack([engine.nats().double(), norm_share(named, ranks, further)])
    if dist.is_initialized():
        dist.all_reduce(both)
    norm = float(both[1].sqrt())
    scale_(named, norm, MAX_NORM)
    optimizer.step(1.0)
    engine.sum_load()
    engine.rebalance()
    return float(both[0]) / BATCH / SEQ_LEN, norm


def _watch(engine: Engine, leads: list[float]) -> None:
    for part in engine.parts:
        for mixture in mixtures(part):
            mixture.router.register_forward_hook(partial(_note, mixture, leads))


def _note(
    mixture: Mixture, leads: list[float], module: nn.Module, inputs: Any, logits: Tensor
) -> None:
    del module, inputs
    best = (logits.detach().float().sigmoid() + mixture.balance).topk(mixture.topk + 1).values
    leads.append(float((best[:, -2] - best[:, -1]).min()))


class References:
    """What one process came to for each model, made when first asked for, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, case: Case) -> Path:
        """Return the file of a case's model."""
        alone = case.alone
        key = repr((alone.spec, alone.split.precision, alone.options))
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        if not path.exists():
            torch.save(train(alone), path)
        return path

    def load(self, case: Case) -> Trained:
        """Return what one process came to."""
        trained: Trained = torch.load(self.of(case), weights_only=False)
        return trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """What one rank says of one case."""

    loss: float
    norm: float
    weight: float
    held: frozenset[str]
    """Weights it holds a part of."""

    def __post_init__(self) -> None:
        """Fail for what is no number, which no comparison would find."""
        assert not any(math.isnan(part) for part in (self.loss, self.norm, self.weight)), self


def report(cases: Sequence[Case], references: Sequence[Path]) -> list[Reported]:
    """Train every case on this rank, one after the other, and compare each with its reference."""
    return [
        _said(case, partial(_report, case, at)) for case, at in zip(cases, references, strict=True)
    ]


def _said(case: Case, act: Callable[[], Reported]) -> Reported:
    try:
        return act()
    except BaseException as error:
        error.add_note(f"in the case {case.name}, {case.model}")
        raise


def _report(case: Case, reference: Path) -> Reported:
    alone: Trained = torch.load(reference, weights_only=False)
    here = train(case)
    return Reported(
        loss=max(abs(a - b) for a, b in zip(here.losses, alone.losses, strict=True)),
        norm=max(abs(a / b - 1) for a, b in zip(here.norms, alone.norms, strict=True)),
        weight=max(float((alone.weights[n] - w).abs().max()) for n, w in here.weights.items()),
        held=frozenset(here.weights),
    )


def compare(cases: Sequence[Case], references: References) -> list[Difference]:
    """Run cases of equally many ranks in one world; return how far each is from one process.

    Fails where a weight of the model is on no rank.
    """
    world = cases[0].split.ranks
    for case in cases:
        case.refuse()
    paths = [references.of(case) for case in cases]
    by_rank: list[list[Reported]] = run(report, world, references.folder, cases, paths)
    ranks_of = zip(*by_rank, strict=True)
    return [_joined(references.load(c), r) for c, r in zip(cases, ranks_of, strict=True)]


def _joined(alone: Trained, ranks: Sequence[Reported]) -> Difference:
    held = frozenset[str]().union(*(rank.held for rank in ranks))
    assert held == frozenset(alone.weights), held ^ frozenset(alone.weights)
    return Difference(
        loss=max(rank.loss for rank in ranks),
        norm=max(rank.norm for rank in ranks),
        weight=max(rank.weight for rank in ranks),
        first=alone.losses[0],
        last=alone.losses[-1],
    )
