"""The loop of fine-tuning: steps, evaluations, a state that resumes, and where it stops."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from crore.errors import InputError
from crore.io import write_text
from crore.train.schedule import factor, parse_schedule
from crore.train.signals import LeaveRequest
from crore.train.tune.models import evaluating, load, trained, write
from crore.train.tune.settings import Tuning
from crore.train.tune.task import Score, Task, TaskOf

STATE: Final = "tune.pt"
BEST: Final = "best.pt"
LOG: Final = "tune.jsonl"
BETTER: Final = 1e-3
"""Share by which an evaluation must be below the best to count."""
CLIP: Final = 1.0
Watch = Callable[[float, str], None]
"""Hears the share done, and what is at work."""


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    before: Score | None = None
    """On what is held out, of the model it began with."""
    best: Score | None = None
    best_step: int = 0
    worse: int = 0
    """Evaluations since the best one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended."""

    reason: str
    """finished, stopped (it learned no more) or signal."""
    steps: int
    best_step: int
    """The step whose weights were written."""
    before: Score
    after: Score
    exit_code: int = 0


@dataclass(kw_only=True)
class _Run:
    tuning: Tuning
    task: Task
    model: Any
    identity: str
    watch: Watch | None
    steps: int = 0
    place: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.weights = trained(self.model)
        self.most = self.tuning.rate(int(self.model.config.hidden_size))
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=self.most, betas=(0.9, 0.99), weight_decay=0.0
        )
        whole = math.ceil(self.tuning.epochs * self.task.count / self.tuning.rows)
        self.steps = self.tuning.steps or max(whole, 1)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up in a line, then down a cosine."""
        return self.most * factor(parse_schedule("cosine", self.steps), step)

    def rows_of(self, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the items of a step: each pass over all is in an order of its own."""
        count, size = self.task.count, self.tuning.rows
        at = np.arange(step * size, (step + 1) * size)
        orders = {
            p: np.random.default_rng((self.tuning.seed, int(p))).permutation(count)
            for p in np.unique(at // count)
        }
        return np.array([orders[p][k] for p, k in zip(at // count, at % count, strict=True)])

    def take(self) -> None:
        step, began_s = self.place.step, time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.backward(self.model, self.rows_of(step))
        norm = torch.nn.utils.clip_grad_norm_(list(self.weights.values()), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        if math.isfinite(float(norm)):  # a broken batch leaves the weights as they are
            self.optimizer.step()
        self.place.step = step + 1
        self.say(
            "step", loss=loss, lr=self.rate(step), grad_norm=float(norm),
            step_time_s=time.perf_counter() - began_s,
        )  # fmt: skip

    def evaluate(self) -> None:
        with evaluating(self.model):
            score = self.task.evaluate(self.model)
        place = self.place
        place.before = place.before or score
        if place.best is None or score.loss < place.best.loss * (1 - BETTER):
            place.best, place.best_step, place.worse = score, place.step, 0
            _save(self.tuning.folder / BEST, {n: p.detach() for n, p in self.weights.items()})
        else:
            place.worse += 1
        self.say("eval", **asdict(score))

    def say(self, kind: str, **told: float | str | None) -> None:
        place = self.place
        line = json.dumps({"kind": kind, "step": place.step, **told})
        with (self.tuning.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        if self.watch is not None:
            held = f", held out {place.best.loss:.3f}" if place.best else ""
            self.watch(min(place.step / self.steps, 1.0), f"step {place.step:,}{held}")

    def save(self) -> None:
        _save(
            self.tuning.folder / STATE,
            {
                "identity": self.identity, "place": asdict(self.place),
                "weights": {n: p.detach() for n, p in self.weights.items()},
                "optimizer": self.optimizer.state_dict(), "task": self.task.state(),
            },
        )  # fmt: skip

    def restore(self) -> bool:
        """Take up the state of the folder; False where there is none."""
        path = self.tuning.folder / STATE
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            raise InputError(
                f"{str(self.tuning.folder)[-60:]} holds another tuning run: give another --out, "
                "or --fresh to begin anew"
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task.load_state(state["task"])
        place = state["place"]
        for key in ("before", "best"):
            place[key] = Score(**place[key]) if place[key] else None
        self.place = Progress(**place)
        _cut(self.tuning.folder / LOG, self.place.step)
        return True

    def ends(self) -> str:
        if self.place.worse >= self.tuning.patience:
            return "stopped"
        return "finished" if self.place.step >= self.steps else ""

    def go(self, leave: LeaveRequest) -> str:
        """Take steps until an end or a signal; return why."""
        if self.place.before is None:
            self.evaluate()
            self.save()
        while not (reason := self.ends()):
            self.take()
            if self.place.step % self.tuning.evaluate_every == 0 or self.place.step == self.steps:
                self.evaluate()
                self.save()
            if leave.asked:
                self.save()
                return "signal"
        return reason

    def best(self) -> None:
        """Take up the weights of the best evaluation."""
        found = torch.load(self.tuning.folder / BEST, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(found[name])


def tune(tuning: Tuning, task_of: TaskOf, watch: Watch | None = None) -> Outcome:
    """Tune a model; goes on from the folder's state. Ctrl-C saves and leaves with 130.

    `task_of` makes the task of the model's tokenizer. What is written at the end are the weights of
    the best evaluation. Raises InputError for another run's folder.
    """
    from crore.train.tune.template import tokenizer_of

    if tuning.threads:
        torch.set_num_threads(tuning.threads)
    tokenizer = tokenizer_of(tuning.base)
    task = task_of(tokenizer)
    run = _Run(
        tuning=tuning, task=task, model=load(tuning), watch=watch,
        identity=tuning.identity(task.fingerprint),
    )  # fmt: skip
    tuning.folder.mkdir(parents=True, exist_ok=True)
    if not run.restore():
        with contextlib.suppress(FileNotFoundError):
            (tuning.folder / LOG).unlink()
        with evaluating(run.model):
            task.prepare(run.model)
    with LeaveRequest() as leave:
        reason = run.go(leave)
    place = run.place
    assert place.before is not None
    assert place.best is not None
    told = Outcome(
        reason=reason, steps=place.step, best_step=place.best_step, before=place.before,
        after=place.best, exit_code=128 + int(leave.asked) if leave.asked else 0,
    )  # fmt: skip
    if reason != "signal":
        run.best()
        write(run.model, tokenizer, tuning)
        run.say("end", reason=reason, best_step=place.best_step)
    return told


def _save(path: Path, state: Any) -> None:
    """Write a state under its name once it is whole."""
    draft = path.with_suffix(".draft")
    try:
        torch.save(state, draft)
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # torch says a full disk in either
        raise InputError(f"cannot write {path.name}: {str(error)[:80]}") from error


def _cut(log: Path, step: int) -> None:
    """Take back the lines after a step."""
    lines: Sequence[str] = log.read_text(encoding="utf-8").splitlines() if log.exists() else ()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_text(log, "".join(f"{line}\n" for line in kept))
