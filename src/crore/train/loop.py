"""The loop: a step, its judgement, and what comes between steps; the same calls on every rank."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist

from crore.train.checkpoint import Checkpoints
from crore.train.checksum import checksum, whole_checksum
from crore.train.data import Dataset
from crore.train.engine import Engine
from crore.train.fleet import Fleet
from crore.train.hang import Beat
from crore.train.health import AGAIN, GO_ON, Health, Verdict
from crore.train.job import Job
from crore.train.listeners import Listeners
from crore.train.local import local_part
from crore.train.meters import Pace, mfu
from crore.train.optim import Optimizer
from crore.train.peers import Peers, Share, State, Torn
from crore.train.place import NOTHING, Numbers, Place
from crore.train.records import EndReason, Eval, Event, EventKind, Sample, Step
from crore.train.resume import identity
from crore.train.sample import write_text
from crore.train.saving import SAVE_S, Saving
from crore.train.schedule import batch, factor
from crore.train.signals import LeaveRequest
from crore.train.state import random_state, set_random_state, tensors_of
from crore.train.update import add_gradients, shared_sums, update

MEET_S: Final = 24 * 3600.0
"""What waiting for other worlds may take before the rank counts as hung: it has its own limits."""


class Trainer:
    """A run on one rank; `run` is the loop."""

    def __init__(
        self, job: Job, engine: Engine, optimizer: Optimizer, data: Dataset, *,
        checkpoints: Checkpoints, listeners: Listeners, sync: Callable[[], None], beat: Beat,
        leave: LeaveRequest, peak_bytes: Callable[[], float], peers: Peers, fleet: Fleet,
    ) -> None:  # fmt: skip
        self.job, self.engine, self.optimizer, self.data = job, engine, optimizer, data
        self.listeners, self.beat, self.leave = listeners, beat, leave
        self.peak_bytes, self.peers, self.fleet = peak_bytes, peers, fleet
        self.saving = Saving(checkpoints, job.folder, beat, sync=sync)
        self.named = dict(engine.named_parameters())
        self.health, self.place, self.pace = Health(job.health), Place(), Pace()
        self.ranks = engine.world.split.ranks
        seat = job.seat
        self._gpus = self.ranks * (seat.worlds * seat.islands if seat else 1)
        self._owed = self._parted = False
        self.asked: signal.Signals | None = None
        """The signal that ended the run."""
        self.share: Share
        """This world's part of the last step."""
        peers.attach(self._state, self._load)

    @property
    def over(self) -> bool:
        """Whether no step is left, by what is known so far of other islands."""
        return self.job.done(self.place) >= self.job.steps

    def restore(self) -> int:
        """Go on from the newest sound checkpoint, if there is one; return the steps done."""
        self.beat.phase("restore", SAVE_S)
        facts = self.saving.restore(self._tensors())
        if facts is not None:
            self._take_up(facts.values)
            self.health.load_facts(facts.values["health"])
        return self.place.step

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return all that training changes on this rank, by names in the whole run."""
        return {**tensors_of(self.engine, self.optimizer), **self.fleet.tensors()}

    def _facts(self) -> dict[str, Any]:
        return {
            "place": asdict(self.place), "optimizer": self.optimizer.state_facts(),
            "health": self.health.facts(), "rng": random_state(),
            "identity": identity(self.job, self.data), "fleet": self.fleet.facts(),
        }  # fmt: skip

    def _take_up(self, values: Mapping[str, Any]) -> None:
        self.place = Place(**values["place"])
        self.optimizer.load_facts(values["optimizer"])
        self.fleet.load_facts(values["fleet"])
        set_random_state(values)

    def _state(self) -> State:
        """Return what a world that joins takes over from this rank."""
        tensors = {name: local_part(tensor) for name, tensor in self._tensors().items()}
        return tensors, self._facts()

    @torch.no_grad()
    def _load(self, state: State) -> None:
        """Take over the state of the same rank of another world."""
        tensors, facts = state
        for name, tensor in self._tensors().items():
            local_part(tensor).copy_(tensors[name])
        before = self.place.step
        self._take_up(facts)
        self.health.load_facts(facts["health"])
        self._event("joined", f"took up step {self.place.step:,} from another world, at {before:,}")

    def run(self, around: Callable[[int], Any]) -> tuple[EndReason, str]:
        """Train until the last step, a signal, or a reason to stop; return why it ended.

        `around` is a context for each step (the profiler's).
        """
        if self.place.step == 0:
            self._say_evaluation()
            if self.saving.kept is None:
                self.save()
        while not self._ends():
            with around(self.place.step):
                verdict, numbers = self._settled()
            if verdict.action == "stop":
                self._finish_saving()
                return "stopped", verdict.reason
            if verdict.action == "again" or self.fleet.due(self):
                continue
            if verdict.action != "roll back":
                self._between()
            self._tell_checkpoint()
            if numbers.leave:
                self.asked = self._asked()
                message = f"asked to end by {self.asked.name}"
                self._event("signal", f"{message}: saving")
                return self._leave("signal", f"{message}: the same command goes on")
        return self._leave("finished", "")

    def _ends(self) -> bool:
        """Return whether all is done, and the other worlds know where the last checkpoint is."""
        if not self.over or self.fleet.due(self):
            return False
        return self._parted or not self.peers.many

    def _part(self, led: bool) -> tuple[Verdict, Numbers]:
        """Part from the other worlds if one of them, which `led`, has seen to the last checkpoint.

        In a meeting that has begun; else they meet again, and another leads.
        """
        checked = whole_checksum(self.named.values())
        seen_to = self.peers.sums({"led": float(led)}, checked, 0.0)["led"]
        if self.peers.commit():
            self.place.met, self._parted = self.place.met + 1, seen_to > 0
        return AGAIN, NOTHING

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
        if not self.peers.leads:
            return reason, message
        if self.saving.kept != self.place.step:
            self.save()
            self._finish_saving()
        if self.saving.kept != self.place.step:
            return "failed", f"the last checkpoint, of step {self.place.step}, could not be written"
        return reason, message

    def _settled(self) -> tuple[Verdict, Numbers]:
        """Take one step; go back to the last checkpoint when the worlds' weights are torn."""
        try:
            return self.step()
        except Torn as torn:
            verdict = Verdict(action="roll back", reason=str(torn))
            return self._roll_back(verdict, None), NOTHING

    def step(self) -> tuple[Verdict, Numbers]:
        """Take one step: who is there, samples, forward and backward, judgement, update."""
        job, began_s = self.job, time.perf_counter()
        led = self.over and not self.fleet.due(self) and self.peers.leads
        if led:
            self._leave("finished", "")
        self.beat.phase("meeting", MEET_S)
        self.peers.begin(done=self.place.met)
        if self.fleet.due(self):
            return self._join()
        if self.over:
            return self._part(led)
        place, done = self.place, job.done(self.place)
        self.beat.begin(place.step + 1)
        share = self.share = self._share(batch(job.ramp, done))
        numbers = self._reduced(share, self._backward(share))
        if not self.peers.commit():
            self.engine.forget_load()
            return AGAIN, numbers
        verdict = self.health.judge(place.step + 1, numbers.loss, numbers.grad_norm)
        lr_factor = factor(job.schedule, done) * share.lr
        if verdict.action == "go on":
            self.beat.phase("optimizer")
            update(
                self.engine, self.named, self.optimizer, norm=numbers.grad_norm, clip=job.clip,
                lr_factor=lr_factor,
            )  # fmt: skip
        else:
            self.engine.forget_load()
        self.place = replace(place, met=place.met + 1)
        if verdict.action == "roll back":
            return self._roll_back(verdict, place.next_sample + share.taken), numbers
        self.place.step, self.place.samples = place.step + 1, place.samples + share.taken
        taken_s = time.perf_counter() - began_s
        self._tell_step(place.next_sample, share, numbers, lr_factor * job.optim.lr, taken_s)
        if verdict.reason:
            self._event("skip" if verdict.action == "skip" else "note", verdict.reason)
        self.fleet.after(self)
        return verdict, numbers

    def _join(self) -> tuple[Verdict, Numbers]:
        """Join the islands, in a meeting that has begun."""
        if not self.fleet.join(self):
            return AGAIN, NOTHING
        self.place.met += 1
        return GO_ON, NOTHING

    def _share(self, size: int) -> Share:
        """Return this world's part of a step, with the engine ready for it."""
        split = self.engine.world.split
        unit = split.dp * split.micro_batch * split.pp
        share = self.peers.share(self.place.next_sample, size, unit, equal=split.pp > 1)
        if share.rows:
            self.engine.resize(share.rows, share.whole)
        return share

    def _backward(self, share: Share) -> float:
        """Run the world's samples and add up gradients over worlds; return seconds of own work."""
        self.optimizer.zero_grad()
        self.beat.phase("forward and backward")
        began_s = time.perf_counter()
        if share.rows:
            self.engine.backward(self._samples(share))
        else:
            self.engine.rest()
        busy_s = time.perf_counter() - began_s
        loads = self.engine.sum_load()
        if self.peers.many:
            self.beat.phase("sums over worlds")
            add_gradients(self.named, self.peers.add)
            if loads is not None:
                self.peers.add([loads])
        return busy_s if share.rows else 0.0

    def _samples(self, share: Share) -> torch.Tensor:
        """Return this rank's samples [B, S + 1]; rows beyond the world's samples are below 0."""
        rows = self.engine.rows
        own = np.arange(rows.start, rows.stop)
        own = share.first + own[own < share.samples]
        found = torch.from_numpy(self.data.samples(own))
        missing = rows.stop - rows.start - len(own)
        if not missing:
            return found
        return torch.nn.functional.pad(found, (0, 0, 0, missing), value=-1)

    def _reduced(self, share: Share, busy_s: float) -> Numbers:
        """Add up what every rank knows of the step: over the world, then over worlds."""
        self.beat.phase("gradient norm")
        more = [float(bool(self.leave.asked))]
        if self.peers.many:
            more += [busy_s / self.ranks, float(checksum(self.named.values()))]
        square, nats, asked, *own = shared_sums(self.engine, self.named, *more).tolist()
        if self.peers.many:
            nats = self.peers.sums({"nats": nats}, int(own[1]), own[0])["nats"]
        return Numbers(
            loss=nats / (share.whole * self.job.seq_len),
            grad_norm=math.sqrt(square) if square >= 0 else math.nan,
            leave=asked > 0,
        )

    def _roll_back(self, verdict: Verdict, next_sample: int | None) -> Verdict:
        """Return to the last checkpoint; stop without one.

        The samples since it are left out up to `next_sample`, or used again where it is None.
        """
        self._finish_saving()
        self.beat.phase("roll back", SAVE_S)
        met = self.place.met
        facts = self.saving.restore(self._tensors(), at_most=self.place.step)
        self.saving.tell_messages(self._event)
        if facts is None:
            why = verdict.reason.partition(": rolling back")[0]
            return replace(
                verdict, action="stop", reason=f"{why}, and no sound checkpoint to go back to"
            )
        self._take_up(facts.values)
        self.place.met = met  # the others count on
        resumed = self.place.next_sample
        left_out = (next_sample or resumed) - resumed
        self.place.set_aside += left_out
        self.listeners.event(
            Event(
                step=self.place.step, what="roll back", message=verdict.reason,
                first_sample=resumed, samples=left_out,
            )
        )  # fmt: skip
        return verdict

    def _between(self) -> None:
        """Evaluate, sample and save when it is time."""
        step, every, last = self.place.step, self.job.every, self.over
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
        """Begin a checkpoint of this step, on the world that speaks for its island."""
        self._finish_saving()
        self._owed = False
        if self.peers.leads:
            self.saving.begin(self.place.step, self._tensors(), self._facts())

    def _finish_saving(self) -> None:
        self.saving.finish(self._event, self.listeners.checkpoint)

    def _tell_checkpoint(self) -> None:
        """Say what became of the checkpoint being written, if that is known by now."""
        if self.saving.checkpoints.done:
            self._finish_saving()

    def _tell_step(
        self, first: int, share: Share, numbers: Numbers, lr: float, taken_s: float
    ) -> None:
        job, tokens = self.job, share.taken * self.job.seq_len
        self.pace = self.pace.after(taken_s)
        rate = tokens / taken_s
        told = job.prediction
        self.listeners.step(
            Step(
                step=self.place.step, first_sample=first, samples=share.taken, tokens=tokens,
                loss=numbers.loss,
                bits_per_byte=numbers.loss / math.log(2) / self.data.bytes_per_token,
                grad_norm=numbers.grad_norm, lr=lr, step_time_s=taken_s, tokens_per_s=rate,
                mfu=mfu(job.flops_per_token, rate, job.peak_flops, self._gpus),
                memory_bytes=self.peak_bytes(),
                predicted_step_time_s=told.step_time_s if told else None,
                worlds=self.peers.members if self.peers.many else None,
                own_samples=(share.first, share.first + share.samples) if job.seat else None,
            )
        )  # fmt: skip

    def _event(self, what: EventKind, message: str) -> None:
        self.listeners.event(Event(step=self.place.step, what=what, message=message))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
