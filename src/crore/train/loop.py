"""The loop: a step, its judgement, and what comes between steps; the same calls on every rank."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from crore.train.checkpoint import Checkpoints, Facts, SaveFailed
from crore.train.data import Dataset
from crore.train.engine import Engine
from crore.train.hang import Beat
from crore.train.health import Health, Verdict
from crore.train.job import Job
from crore.train.listeners import Listeners
from crore.train.meters import Pace, mfu
from crore.train.optim import Optimizer
from crore.train.records import Checkpoint, EndReason, Eval, Event, EventKind, Sample, Step
from crore.train.resume import identity
from crore.train.sample import write_text
from crore.train.schedule import batch, factor
from crore.train.signals import LeaveRequest
from crore.train.state import random_state, set_random_state, tensors_of
from crore.train.update import shared_sums, update

SAVE_S = 600.0
"""What a checkpoint may take before the rank counts as hung."""


@dataclass(kw_only=True, slots=True)
class Place:
    """Where a run is: all that a resume needs besides tensors."""

    step: int = 0
    """Steps done."""
    set_aside: int = 0
    """Samples that roll-backs have passed over."""
    samples: int = 0
    """Samples used."""

    @property
    def next_sample(self) -> int:
        """Global index of the first sample of the next step."""
        return self.samples + self.set_aside


@dataclass(kw_only=True, slots=True)
class _Saving:
    """A checkpoint that is being written."""

    step: int
    began_s: float
    """Of the clock that times steps."""
    blocked_s: float
    """What training waited for it so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """One step's numbers, reduced over the world."""

    loss: float
    """Nats per token."""
    grad_norm: float
    leave: bool
    """Whether any rank was asked to end."""


class Trainer:
    """A run on one rank; `run` is the loop."""

    def __init__(
        self, job: Job, engine: Engine, optimizer: Optimizer, data: Dataset, *,
        checkpoints: Checkpoints, listeners: Listeners, sync: Callable[[], None], beat: Beat,
        leave: LeaveRequest, peak_bytes: Callable[[], float],
    ) -> None:  # fmt: skip
        self.job, self.engine, self.optimizer, self.data = job, engine, optimizer, data
        self.checkpoints, self.listeners, self.sync = checkpoints, listeners, sync
        self.beat, self.leave, self.peak_bytes = beat, leave, peak_bytes
        self.named = dict(engine.named_parameters())
        self.health, self.place, self.pace = Health(job.health), Place(), Pace()
        self.ranks = engine.world.split.ranks
        self._saving: _Saving | None = None
        self._kept: int | None = None  # step of the last checkpoint that was or is being written
        self._owed = False
        self.asked: signal.Signals | None = None
        """The signal that ended the run."""

    def restore(self) -> int:
        """Go on from the newest sound checkpoint, if there is one; return the steps done."""
        self.beat.phase("restore", SAVE_S)
        facts = self.checkpoints.restore(tensors_of(self.engine, self.optimizer))
        if facts is not None:
            self._take_up(facts)
            self.health.load_facts(facts.values["health"])
        return self.place.step

    def _take_up(self, facts: Facts) -> None:
        values = facts.values
        self.place, self._kept = Place(**values["place"]), facts.step
        self.optimizer.load_facts(values["optimizer"])
        set_random_state(values)

    def run(self, around: Callable[[int], Any]) -> tuple[EndReason, str]:
        """Train until the last step, a signal, or a reason to stop; return why it ended.

        `around` is a context for each step (the profiler's).
        """
        if self.place.step == 0:
            self._say_evaluation()
            if self._kept is None:
                self.save()
        while self.place.step < self.job.steps:
            with around(self.place.step):
                verdict, numbers = self.step()
            if verdict.action == "stop":
                self._finish_saving()
                return "stopped", verdict.reason
            if verdict.action != "roll back":
                self._between()
            self._tell_checkpoint()
            if numbers.leave:
                self.asked = self._asked()
                message = f"asked to end by {self.asked.name}"
                self._event("signal", f"{message}: saving")
                return self._leave("signal", f"{message}: the same command goes on")
        return self._leave("finished", "")

    def _asked(self) -> signal.Signals:
        """Return the signal that some rank was sent, the same on all ranks."""
        own = int(self.leave.asked or 0)
        if dist.is_initialized():
            number = torch.tensor(own, device=self.engine.world.device)
            dist.all_reduce(number, dist.ReduceOp.MAX)
            own = int(number)
        return signal.Signals(own)

    def _leave(self, reason: EndReason, message: str) -> tuple[EndReason, str]:
        """Have a checkpoint of the last step on the disk; return why the run ends."""
        self._finish_saving()
        if self._kept != self.place.step:
            self.save()
            self._finish_saving()
        if self._kept != self.place.step:
            return "failed", f"the last checkpoint, of step {self.place.step}, could not be written"
        return reason, message

    def step(self) -> tuple[Verdict, Numbers]:
        """Take one step: samples, forward and backward, judgement, update."""
        job, place = self.job, self.place
        began_s, size = time.perf_counter(), batch(job.ramp, place.step)
        self.beat.begin(place.step + 1)
        first = place.next_sample
        if size != self.engine.global_batch:
            self.engine.resize(size)
        own = np.arange(first, first + size)[self.engine.rows]
        self.optimizer.zero_grad()
        self.beat.phase("forward and backward")
        self.engine.backward(torch.from_numpy(self.data.samples(own)))
        numbers = self._reduced(size)
        verdict = self.health.judge(place.step + 1, numbers.loss, numbers.grad_norm)
        lr_factor = factor(job.schedule, place.step)
        if verdict.action == "go on":
            self.beat.phase("optimizer")
            update(
                self.engine, self.named, self.optimizer, norm=numbers.grad_norm, clip=job.clip,
                lr_factor=lr_factor,
            )  # fmt: skip
        else:
            self.engine.forget_load()
        if verdict.action == "roll back":
            return self._roll_back(verdict, first + size), numbers
        self.place = Place(
            step=place.step + 1, set_aside=place.set_aside, samples=place.samples + size
        )
        taken_s = time.perf_counter() - began_s
        self._tell_step(first, size, numbers, lr_factor * job.optim.lr, taken_s)
        if verdict.reason:
            self._event("skip" if verdict.action == "skip" else "note", verdict.reason)
        return verdict, numbers

    def _reduced(self, size: int) -> Numbers:
        """Add up what every rank knows of the step, in one all-reduce."""
        self.beat.phase("gradient norm")
        packed = shared_sums(self.engine, self.named, float(bool(self.leave.asked)))
        square, nats, asked = packed.tolist()
        return Numbers(
            loss=nats / (size * self.job.seq_len),
            grad_norm=math.sqrt(square) if square >= 0 else math.nan,
            leave=asked > 0,
        )

    def _roll_back(self, verdict: Verdict, next_sample: int) -> Verdict:
        """Return to the last checkpoint and leave the samples since it out; stop without one."""
        self._finish_saving()
        self.beat.phase("roll back", SAVE_S)
        tensors = tensors_of(self.engine, self.optimizer)
        facts = self.checkpoints.roll_back(tensors, self.place.step)
        self._tell_messages()
        if facts is None:
            why = verdict.reason.partition(": rolling back")[0]
            return replace(
                verdict, action="stop", reason=f"{why}, and no sound checkpoint to go back to"
            )
        self._take_up(facts)
        resumed = self.place.next_sample
        self.place.set_aside = next_sample - self.place.samples
        self.listeners.event(
            Event(
                step=self.place.step, what="roll back", message=verdict.reason,
                first_sample=resumed, samples=next_sample - resumed,
            )
        )  # fmt: skip
        return verdict

    def _between(self) -> None:
        """Evaluate, sample and save when it is time."""
        step, every = self.place.step, self.job.every
        last = step == self.job.steps
        if last or _due(step, every.evaluation):
            self._say_evaluation()
        if last or _due(step, every.sample):
            self._say_sample()
        # Not in the middle of a spike, which a roll back would return to.
        self._owed = self._owed or _due(step, every.checkpoint)
        if last or (self._owed and self.health.calm):
            self.save()

    def _say_evaluation(self) -> None:
        self.beat.phase("evaluation", SAVE_S)
        nats, rows = 0.0, min(self.job.text.evaluation_rows, self.data.validation_rows)
        samples = torch.from_numpy(self.data.validation(rows))
        for part in samples.split(self.engine.global_batch):
            missing = self.engine.global_batch - part.shape[0]
            whole = torch.nn.functional.pad(part, (0, 0, 0, missing), value=-1)
            nats += self.engine.evaluate(whole[self.engine.rows])
        total = torch.tensor([nats], dtype=torch.float64, device=self.engine.world.device)
        if dist.is_initialized():
            dist.all_reduce(total)
        tokens = rows * self.job.seq_len
        text_bytes = int(self.data.validation_bytes(np.arange(rows)).sum())
        self.listeners.eval(
            Eval(
                step=self.place.step, loss=float(total) / tokens, tokens=tokens, bytes=text_bytes,
                bits_per_byte=float(total) / math.log(2) / text_bytes,
            )
        )  # fmt: skip

    def _say_sample(self) -> None:
        self.beat.phase("sample", SAVE_S)
        asked = self.job.text
        text = write_text(
            self.engine, self.data, asked.prompt, asked.sample_tokens, self.job.seed,
            one_shape=self.job.build.compiled,
        )  # fmt: skip
        self.listeners.sample(Sample(step=self.place.step, prompt=asked.prompt, text=text))

    def save(self) -> None:
        """Begin a checkpoint of this step; it is written while training goes on."""
        self._finish_saving()
        self.beat.phase("checkpoint", SAVE_S)
        began_s = time.perf_counter()
        self.sync()
        facts = {
            "place": asdict(self.place), "optimizer": self.optimizer.state_facts(),
            "health": self.health.facts(), "rng": random_state(),
            "identity": identity(self.job, self.data),
        }  # fmt: skip
        self.checkpoints.save(self.place.step, tensors_of(self.engine, self.optimizer), facts)
        self._kept, self._owed = self.place.step, False
        self._saving = _Saving(
            step=self.place.step, began_s=began_s, blocked_s=time.perf_counter() - began_s
        )

    def _finish_saving(self) -> None:
        """Wait for the checkpoint being written, and say what became of it."""
        if self._saving is not None:
            self.beat.phase("checkpoint", SAVE_S)
            self._tell_saved(self._saving)
            self._saving = None
        self._tell_messages()

    def _tell_checkpoint(self) -> None:
        """Say what became of the checkpoint being written, if that is known by now."""
        if self.checkpoints.done:
            self._finish_saving()

    def _tell_messages(self) -> None:
        for message in self.checkpoints.poll():
            self._event("damaged checkpoint" if "damaged" in message else "note", message)

    def _tell_saved(self, saving: _Saving) -> None:
        began_s = time.perf_counter()
        try:
            self.checkpoints.wait()
        except SaveFailed as error:
            self._kept = None
            self._event("disk full" if _is_full(str(error)) else "note", str(error))
            return
        path = self.checkpoints.path(saving.step)
        if path is None:  # removed by hand, or not seen yet on a shared disk
            return
        now_s = time.perf_counter()
        self.listeners.checkpoint(
            Checkpoint(
                step=saving.step, path=str(path.relative_to(self.job.folder)),
                bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
                write_s=now_s - saving.began_s, blocked_s=saving.blocked_s + now_s - began_s,
            )
        )  # fmt: skip

    def _tell_step(
        self, first: int, size: int, numbers: Numbers, lr: float, taken_s: float
    ) -> None:
        job, tokens = self.job, size * self.job.seq_len
        self.pace = self.pace.after(taken_s)
        rate = tokens / taken_s
        told = job.prediction
        self.listeners.step(
            Step(
                step=self.place.step, first_sample=first, samples=size, tokens=tokens,
                loss=numbers.loss,
                bits_per_byte=numbers.loss / math.log(2) / self.data.bytes_per_token,
                grad_norm=numbers.grad_norm, lr=lr, step_time_s=taken_s, tokens_per_s=rate,
                mfu=mfu(job.flops_per_token, rate, job.peak_flops, self.ranks),
                memory_bytes=self.peak_bytes(),
                predicted_step_time_s=told.step_time_s if told else None,
            )
        )  # fmt: skip

    def _event(self, what: EventKind, message: str) -> None:
        self.listeners.event(Event(step=self.place.step, what=what, message=message))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _is_full(message: str) -> bool:
    return any(words in message for words in ("no space", "quota", "file too large"))
