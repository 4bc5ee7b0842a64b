"""A made-up run: records as the loop tells them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crore.train.listeners import Listener
from crore.train.records import Checkpoint, End, Eval, Prediction, Record, Sample, Start, Step

PREDICTION = Prediction(
    step_time_s=0.39, step_time_low_s=0.33, step_time_high_s=0.46, tokens_per_s=5251.0,
    memory_bytes=210e6, evidence="measured",
)  # fmt: skip
START = Start(
    step=0, steps=100, command="crore train this_machine", model="small", parameters=5_310_000,
    layout={"dp_shard": 2, "schedule": "none"}, world_size=2, device="cpu", dtype="fp32",
    prediction=PREDICTION, flops_per_token=33.4e6, peak_flops=None, memory_kind="tensors",
    data_sha256="d" * 64, tokenizer_sha256="e" * 64, seed=1, torch="2.13.0+cpu",
)  # fmt: skip
STEP = Step(
    step=1, first_sample=0, samples=8, tokens=2048, loss=9.01, bits_per_byte=3.25, grad_norm=1.5,
    lr=1e-3, step_time_s=0.41, tokens_per_s=4995.0, mfu=None, memory_bytes=215e6,
    predicted_step_time_s=0.39,
)  # fmt: skip
EVAL = Eval(step=0, loss=9.0, bits_per_byte=3.3, tokens=4096, bytes=16_000)
SAMPLE = Sample(step=0, prompt="The ", text="function returns\na list.")
CHECKPOINT = Checkpoint(step=0, path="step-0", bytes=64_000_000, write_s=0.8, blocked_s=0.02)
END = End(step=0, reason="finished", message="", samples=0, tokens=0, wall_s=41.0,
          memory_bytes=215e6)  # fmt: skip


def nth_step(step: int) -> Step:
    """Return the n-th step of the run, its loss falling."""
    loss = 4 + 5 / step
    return replace(STEP, step=step, first_sample=8 * (step - 1), loss=loss, bits_per_byte=loss / 3)


def run_of(first: int, last: int, every: int = 10) -> Iterator[Record]:
    """Yield the records of steps first..last: evaluations, samples and checkpoints now and then."""
    for step in range(first, last + 1):
        yield nth_step(step)
        if step % every == 0:
            yield replace(EVAL, step=step, bits_per_byte=1.3 + 2 / step)
            yield replace(SAMPLE, step=step)
            yield replace(CHECKPOINT, step=step, path=f"step-{step}")


def tell(listener: Listener, *records: Record) -> None:
    """Tell a listener records, each by the method of its kind."""
    for record in records:
        getattr(listener, record.kind)(record)
