"""One rank of a run, from joining its world to its last word."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

from crore.errors import CroreError, InputError
from crore.io import read_text, write_text
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.train.adapters import make_adapters
from crore.train.checkpoint import Checkpoints
from crore.train.checksum import whole_checksum
from crore.train.data import Dataset, prepare
from crore.train.engine import Engine
from crore.train.fault.flip import flip_if_asked
from crore.train.folder import TOKENIZER, writing
from crore.train.hang import Beat, Watchdog, connect
from crore.train.history import read_run
from crore.train.islands.joining import FAREWELL_S
from crore.train.job import Job
from crore.train.listeners import Listener, Listeners
from crore.train.log import RunLog
from crore.train.loop import Trainer
from crore.train.memory import TensorMemory, around_both
from crore.train.optim import build_optimizer
from crore.train.others import others_of
from crore.train.outcome import LEFT_CODE, Outcome, leave_word
from crore.train.peers import Left
from crore.train.profile import Profiler
from crore.train.records import End, EndReason, Event, EventKind, Start
from crore.train.schedule import batch
from crore.train.screen import make_screen
from crore.train.signals import LeaveRequest
from crore.train.state import tensors_of
from crore.train.tally import Tally, tally_of
from crore.train.world import Membership, join, membership, own_group

LATER_S: Final = 60.0
"""At least so much later than the watchdog a collective fails by itself."""
SAVE_TIMEOUT_S: Final = 1800.0
"""The longest write of a checkpoint."""


def work(job: Job) -> Outcome:
    """Run a job on this rank, as the environment says which; a user's mistake is an outcome.

    A function of its own module, so that a launcher can name it.
    """
    try:
        who = membership(os.environ) or Membership()
        with LeaveRequest() as leave:
            return _Rank(job, who, leave).run()
    except CroreError as error:
        return Outcome(reason="failed", message=str(error), exit_code=error.exit_code)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def check_world(job: Job, who: Membership) -> None:
    """Raise InputError where a world has another number of ranks than the plan."""
    if who.ranks != job.split.ranks:
        raise InputError(
            f"the plan is for {job.split.ranks} ranks and this world has {who.ranks}: "
            f"start {job.split.ranks} processes, or plan for {who.ranks} (--gpus {who.ranks})"
        )


class _Rank:
    def __init__(self, job: Job, who: Membership, leave: LeaveRequest) -> None:
        self.job, self.who, self.leave, self.beat = job, who, leave, Beat()
        self.began_s = time.monotonic()
        self.log = RunLog(job.log, grows=job.seat is not None) if who.rank == 0 else None
        self.memory: TensorMemory

    def run(self) -> Outcome:
        job, who = self.job, self.who
        check_world(job, who)
        # The watchdog, which says who hangs, comes before the collectives give up.
        timeout_s = 2 * job.hang_s + LATER_S
        device = join(who, job.device, timeout_s=timeout_s, threads=job.threads)
        with self._watchdog():
            data = _data(job)
            trainer = self._trainer(device, data)
            with writing(job.folder) if who.rank == 0 else contextlib.nullcontext():
                if who.rank == 0:  # whoever takes the weights elsewhere needs it
                    write_text(job.folder / TOKENIZER, read_text(data.tokenizer_file))
                outcome = self._train(trainer, data)
            self.beat.phase("leave")
            if dist.is_initialized():  # a rank that is gone must not cut off what others receive
                dist.barrier()
            return outcome

    @contextlib.contextmanager
    def _watchdog(self) -> Iterator[None]:
        if self.who.ranks == 1:
            yield
            return
        with Watchdog(
            connect(), self.who.rank, self.who.ranks, self.beat,
            timeout_s=self.job.hang_s, on_hang=self._hung,
        ):  # fmt: skip
            yield

    def _hung(self, line: str) -> None:
        if not leave_word(line):
            print(f"crore: {line}", file=sys.stderr, flush=True)
        if self.log is not None:
            self.log.event(Event(step=self.beat.step, what="hang", message=line))

    def _trainer(self, device: torch.device, data: Dataset) -> Trainer:
        job = self.job
        world = make_world(
            job.split, device, experts=job.spec.experts > 0, tied=job.spec.tied_embeddings
        )
        self.beat.phase("build", SAVE_TIMEOUT_S)
        build = job.build
        options = BuildOptions(
            seed=job.seed, compiled=build.compiled, mtp=build.mtp, ring=build.ring
        )
        engine = Engine(
            job.spec, job.seq_len, world, options, global_batch=job.rows(batch(job.ramp, 0)),
            z_weight=build.z_weight, router_z_weight=build.router_z_weight,
        )  # fmt: skip
        named = dict(engine.named_parameters())
        optimizer = build_optimizer(job.optimizer, named, job.optim)
        self.memory = TensorMemory(
            lambda: tensors_of(engine, optimizer).values(), str(device), compiled=build.compiled
        )
        return Trainer(
            job, engine, optimizer, data,
            checkpoints=Checkpoints(
                job.checkpoints, keep=job.keep, group=own_group(SAVE_TIMEOUT_S)
            ),
            listeners=Listeners(), sync=self.log.sync if self.log else lambda: None,
            beat=self.beat, leave=self.leave, peak_bytes=self.memory.peak_bytes,
            **others_of(job, named, self._note, lambda: self.leave.asked is not None),
        )  # fmt: skip

    def _train(self, trainer: Trainer, data: Dataset) -> Outcome:
        job, done = self.job, trainer.restore()
        trainer.listeners = Listeners(self._listeners(done))
        with (
            contextlib.closing(trainer.fleet), contextlib.closing(trainer.peers),
            contextlib.closing(trainer.listeners),
        ):  # fmt: skip
            trainer.listeners.start(self._start(data, done))
            with self._profiler() as profiled:
                counted = around_both(
                    lambda _: self.memory.step(), profiled, *self._faults(trainer)
                )
                reason, message = _run(trainer, counted)
            fullest_bytes = self.memory.fullest_bytes()
            trainer.listeners.end(
                End(
                    step=trainer.place.step, reason=reason, message=message,
                    samples=trainer.place.samples, tokens=trainer.place.samples * job.seq_len,
                    wall_s=time.monotonic() - self.began_s, memory_bytes=fullest_bytes,
                    checksum=whole_checksum(trainer.named.values()),
                )
            )  # fmt: skip
            if reason == "finished" and trainer.peers.leads:
                self.beat.phase("farewell", FAREWELL_S)
                trainer.fleet.see_off(trainer)
        if reason == "signal" and trainer.asked:
            return Outcome.asked(trainer.asked)
        code = {"finished": 0, "signal": 0, "left": LEFT_CODE}.get(reason, 1)
        return Outcome(reason=reason, message=message, exit_code=code)

    def _faults(self, trainer: Trainer) -> list[Callable[[int], Any]]:
        if not self.job.chaos or self.who.rank:
            return []

        def before(step: int) -> contextlib.AbstractContextManager[None]:
            if flip_if_asked(self.job.folder, trainer.named.values(), step):
                self._note("a bit of a weight flipped", "chaos")
            return contextlib.nullcontext()

        return [before]

    @contextlib.contextmanager
    def _profiler(self) -> Iterator[Callable[[int], Any]]:
        if not self.job.profile:
            yield lambda _: contextlib.nullcontext()
            return
        profiler = Profiler(self.job.folder, self.who.rank, self.job.device)
        with contextlib.closing(profiler):
            yield profiler.step

    def _listeners(self, done: int) -> list[Listener]:
        if self.log is None:
            return []
        job = self.job
        screen = make_screen(
            sys.stdout, quiet=job.quiet, tally=_before(job.log, done),
            wrote=_wrote(job), then=_then(job),
        )  # fmt: skip
        return [self.log, *screen, *make_adapters(job.loggers, job.folder, self._note)]

    def _note(self, message: str, what: EventKind = "note") -> None:
        if self.log is not None:
            self.log.event(Event(step=self.beat.step, what=what, message=message))

    def _start(self, data: Dataset, done: int) -> Start:
        job = self.job
        tokenizer = data.card["tokenizer"]
        return Start(
            step=done, steps=job.steps, command=job.command, model=job.spec.name,
            parameters=job.parameters, layout=asdict(job.split), world_size=self.who.ranks,
            device=job.device, dtype=job.split.precision, prediction=job.prediction,
            flops_per_token=job.flops_per_token, peak_flops=job.peak_flops,
            memory_kind=self.memory.kind,
            data_sha256=data.key, tokenizer_sha256=str(tokenizer["sha256"]), seed=job.seed,
            torch=torch.__version__,
        )  # fmt: skip


def _run(trainer: Trainer, around: Callable[[int], Any]) -> tuple[EndReason, str]:
    """Run the loop; a world that leaves the others is no failure."""
    try:
        return trainer.run(around)
    except Left as left:
        return "left", str(left) or "asked to leave while it waited for the others"


def _data(job: Job) -> Dataset:
    text = job.text
    data = prepare(
        text.sources, cache=text.cache, vocab=job.spec.vocab, tokenizer=text.tokenizer,
        seq_len=job.seq_len, seed=job.seed,
    )  # fmt: skip
    if dist.is_initialized():
        keys: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(keys, data.key)
        if len(set(keys)) > 1:
            raise InputError(
                f"the ranks read different data ({', '.join(sorted(set(keys)))[:80]}): give all "
                "nodes the same files, or one shared --cache"
            )
    return data


def _before(path: Path, done: int) -> Tally | None:
    return tally_of(read_run(path).records) if done and path.exists() else None


def _wrote(job: Job) -> dict[str, str]:
    where = job.folder
    wrote = {
        str(job.log): "every step, evaluation, sample and event",
        str(job.checkpoints): f"the last {job.keep} checkpoints",
        str(where / "plan.json"): "the plan it carried out",
    }
    if job.profile:
        wrote[str(where / "trace_rank0.json")] = "a Chrome trace, for ui.perfetto.dev"
    return wrote


def _then(job: Job) -> dict[str, str]:
    return {f"crore explain {job.folder / 'plan.json'}": "where the prediction comes from"}
