"""What the trainer says while it runs: one record for each line of run.jsonl."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

EventKind: TypeAlias = Literal[
    "skip", "roll back", "resume", "signal", "hang", "lost rank", "disk full",
    "damaged checkpoint", "joined", "lost world", "chaos", "outer step", "fenced", "note",
]  # fmt: skip
EndReason: TypeAlias = Literal["finished", "signal", "stopped", "failed", "left"]
MemoryKind: TypeAlias = Literal["tensors", "resident"]
"""Peak bytes of tensors, which the plan predicts; or of the whole process, which it does not."""


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the plan says a step of this run takes."""

    step_time_s: float
    step_time_low_s: float
    """Low end of its 80 % interval."""
    step_time_high_s: float
    tokens_per_s: float
    """All ranks together."""
    memory_bytes: float
    """Peak of the fullest rank."""
    evidence: str
    """measured, fitted, published or extrapolated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A run begins, or goes on from a checkpoint."""

    kind: ClassVar[str] = "start"
    step: int
    """Steps done before; 0 for a new run."""
    steps: int
    """Steps of the whole run."""
    command: str
    model: str
    parameters: int
    layout: Mapping[str, int | float | str | bool | None]
    world_size: int
    device: str
    dtype: str
    """Format of the matrix products."""
    prediction: Prediction | None
    """None without a plan."""
    flops_per_token: float
    """Model FLOPs, forward and backward, recompute left out."""
    peak_flops: float | None
    """Dense peak of one rank in `dtype`, FLOP/s; None where nobody measured it."""
    memory_kind: MemoryKind
    data_sha256: str
    """Of the data card."""
    tokenizer_sha256: str
    seed: int
    torch: str
    """Version."""
    time: str = field(default_factory=_now)
    """UTC, ISO 8601; as in every record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimizer step."""

    kind: ClassVar[str] = "step"
    step: int
    """Steps done, this one included."""
    first_sample: int
    """Global index of the first sample it used; it used `samples` from there on."""
    samples: int
    tokens: int
    """Trained on in this step."""
    loss: float
    """Mean over the step's tokens, nats per token; may be NaN or infinite."""
    bits_per_byte: float | None
    """The same in bits per byte of text, estimated; None where bytes per token are unknown."""
    grad_norm: float
    """Global norm before clipping; may be NaN or infinite."""
    lr: float
    step_time_s: float
    tokens_per_s: float
    mfu: float | None
    """Share of the dense peak; None where the peak is unknown."""
    memory_bytes: float
    """Peak on rank 0 so far, counted as `memory_kind` of the start says."""
    predicted_step_time_s: float | None
    worlds: tuple[int, ...] | None = None
    """That took it together, their numbers in the fleet; None for a world alone."""
    own_samples: tuple[int, int] | None = None
    """Of a world of a fleet: the samples that it ran are from the first number up to the second."""
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Eval:
    """Loss on held-out text."""

    kind: ClassVar[str] = "eval"
    step: int
    loss: float
    """Nats per token."""
    bits_per_byte: float
    tokens: int
    bytes: int
    """Of the text that the tokens stand for."""
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Text that the model wrote."""

    kind: ClassVar[str] = "sample"
    step: int
    prompt: str
    text: str
    """What follows the prompt."""
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint is complete and on disk."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    path: str
    bytes: int
    """All ranks together."""
    write_s: float
    """From its begin until it was on disk."""
    blocked_s: float
    """Of these, what training waited."""
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something out of the ordinary."""

    kind: ClassVar[str] = "event"
    step: int
    """Steps done; of a roll back, the step it goes back to."""
    what: EventKind
    message: str
    first_sample: int | None = None
    """Of a roll back: the sample after the checkpoint's last."""
    samples: int | None = None
    """Of a roll back: samples from `first_sample` on that are set aside, never trained on."""
    time: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """A run ends, for good or until it is resumed."""

    kind: ClassVar[str] = "end"
    step: int
    reason: EndReason
    message: str
    """Why, in a few words; may be empty."""
    samples: int
    """Used since step 0."""
    tokens: int
    """Trained on since step 0."""
    wall_s: float
    """Since this process's start record; of a fleet, since it was started."""
    memory_bytes: float
    """Peak of the fullest rank, counted as `memory_kind` of the start says."""
    checksum: int | None = None
    """Of the weights: equal where all their bits are."""
    time: str = field(default_factory=_now)


Record: TypeAlias = Start | Step | Eval | Sample | Checkpoint | Event | End
