"""One training run as a record: everything a rank must know, the same on all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from crore.catalog.types import ModelSpec
from crore.model.split import Split
from crore.train.adamw import OptimSettings
from crore.train.data import Source
from crore.train.fault.seat import Seat
from crore.train.folder import CHECKPOINTS, LOG
from crore.train.health import Limits
from crore.train.islands.settings import Outer
from crore.train.place import Place
from crore.train.records import Prediction
from crore.train.schedule import Ramp, Schedule, steps_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """How often, in optimizer steps; 0 for never."""

    evaluation: int
    checkpoint: int
    sample: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """How the model is built and run, beyond the split."""

    compiled: bool = False
    """Blocks through torch.compile."""
    mtp: bool = False
    """Multi-token-prediction modules, where the model has them."""
    ring: bool = False
    """Context parallelism in a ring (CUDA alone)."""
    z_weight: float = 0.0
    """Of the head's z-loss."""
    router_z_weight: float = 0.0
    """Of the routers' z-loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """What is trained on, and what is asked of the model while it trains."""

    sources: tuple[Source, ...]
    cache: Path
    """Folder of prepared tokens, shared by runs."""
    tokenizer: Path | None = None
    """A `tokenizer.json`; one is trained where there is none."""
    evaluation_rows: int = 64
    """Held-out samples of an evaluation."""
    prompt: str = "Return the "
    """What samples go on from."""
    sample_tokens: int = 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A training run."""

    spec: ModelSpec
    split: Split
    seq_len: int
    """Tokens per sequence."""
    ramp: Ramp
    """The global batch, sequences."""
    schedule: Schedule
    """The learning rate, as a factor of its peak; its steps are the run's."""
    optimizer: str
    optim: OptimSettings
    clip: float
    """Largest global gradient norm."""
    text: Text
    folder: Path
    """Where the run writes: run.jsonl, checkpoints, traces."""
    device: str
    """`cpu` or `cuda`."""
    every: Every
    seed: int = 0
    """Of weights, order of samples and sampling."""
    keep: int = 3
    """Checkpoints kept."""
    build: Build = field(default_factory=Build)
    health: Limits = field(default_factory=Limits)
    hang_s: float = 600.0
    """Seconds without progress on any rank, after which the run is ended."""
    threads: int = 0
    """CPU threads of a rank; 0 leaves torch's choice."""
    profile: bool = False
    loggers: tuple[str, ...] = ()
    quiet: bool = False
    command: str = ""
    prediction: Prediction | None = None
    flops_per_token: float = 0.0
    """Model FLOPs, forward and backward."""
    peak_flops: float | None = None
    """Dense peak of one rank, FLOP/s."""
    parameters: int = 0
    seat: Seat | None = None
    """The place among other worlds; None for a run that is one world."""
    outer: Outer | None = None
    """How islands join; None for one island."""
    log_name: str = LOG
    """Of the log in `folder`."""
    chaos: bool = False
    """Whether bits flip when a file asks for it."""

    def rows(self, batch: int) -> int:
        """Return the sequences of a step that one world runs when all of a fleet are there."""
        if self.seat is None:
            return batch
        unit = self.split.dp * self.split.micro_batch * self.split.pp
        return max(math.ceil(batch / self.seat.islands / self.seat.worlds / unit), 1) * unit

    def done(self, place: Place) -> float:
        """Return the steps' worth of the run that is done, which rate, batch and end follow."""
        if self.seat is None or not self.seat.makes_up:
            return place.step
        return steps_in(self.ramp, place.samples)

    @property
    def log(self) -> Path:
        """Where this run's records go."""
        return self.folder / self.log_name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints: one for the worlds of an island."""
        if self.seat is None:
            return self.folder / CHECKPOINTS
        return self.folder.parent / f"island-{self.seat.island:03d}" / CHECKPOINTS

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return self.schedule.steps
