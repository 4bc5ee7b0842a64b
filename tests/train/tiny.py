"""A run that takes a second: a tiny model on made-up text, as a job and as a command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from tests.train.data.texts import folder_of

from crore.catalog import load_catalog
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.model.split import Split
from crore.train.adamw import OptimSettings
from crore.train.checkpoint import Checkpoints
from crore.train.data import parse_sources
from crore.train.engine import Engine
from crore.train.folder import CHECKPOINTS, LOG
from crore.train.history import Run, read_run
from crore.train.job import Every, Job, Text
from crore.train.optim import build_optimizer
from crore.train.records import Record
from crore.train.schedule import parse_ramp, parse_schedule
from crore.train.state import tensors_of

SEQ_LEN, BATCH, STEPS, VOCAB = 16, 8, 12, 400
SHAPE = f"""layers = 4
hidden = 32
heads = 4
kv_heads = 4
head_dim = 8
vocab = {VOCAB}
norm = "rms"
position = "rope"
gated_mlp = true
tied_embeddings = false
bias = false
source = "crore's tests"
date = "2026-11"
verified = false
"""
CATALOGUE = f"""[models.tiny]
ffn = 64
{SHAPE}
[models.tiny-moe]
ffn = 64
experts = 4
topk = 2
moe_ffn = 32
first_dense = 1
{SHAPE}"""


def home(root: Path) -> Path:
    """Write the catalogue file and the text, and return the folder."""
    (root / "tiny.toml").write_text(CATALOGUE, encoding="utf-8")
    folder_of(root / "text")
    return root


def job(root: Path, out: str = "run", *, model: str = "tiny", **changes: Any) -> Job:
    """Return a job of the home `root` that writes to its folder `out`.

    `changes` are fields of the job, of its split, or `steps`; `schedule` is the learning rate's.
    """
    steps = changes.pop("steps", STEPS)
    axes = set(Split.__slots__) - {"schedule"}
    split = Split(**{key: changes.pop(key) for key in list(changes) if key in axes})
    fields: dict[str, Any] = {
        "spec": load_catalog(root / "tiny.toml").model(model), "split": split, "seq_len": SEQ_LEN,
        "ramp": parse_ramp("", BATCH, split.dp * split.micro_batch),
        "schedule": parse_schedule("wsd", steps), "optimizer": "adamw",
        "optim": OptimSettings(lr=1e-2), "clip": 1.0,
        "text": Text(
            sources=parse_sources(str(root / "text")), cache=root / "cache",
            evaluation_rows=BATCH, prompt="the ", sample_tokens=4,
        ),
        "folder": root / out, "device": "cpu", "quiet": True, "threads": 1, "hang_s": 120.0,
        "every": Every(evaluation=0, checkpoint=4, sample=0),
    }  # fmt: skip
    made = Job(**(fields | changes))
    made.folder.mkdir(exist_ok=True)
    return made


def told(job: Job) -> Run:
    """Return what a job's folder tells of its run."""
    return read_run(job.folder / LOG)


def steps_of(job: Job) -> list[tuple[int, int, float, float]]:
    """Return (step, first sample, loss, gradient norm) of every step, to the last bit."""
    return [(s.step, s.first_sample, s.loss, s.grad_norm) for s in told(job).steps]


def events_of(job: Job, *kinds: str) -> list[str]:
    """Return the messages of the events of some kinds, or of all."""
    return [e.message for e in told(job).events if not kinds or e.what in kinds]


def state_of(job: Job) -> dict[str, torch.Tensor]:
    """Return the whole tensors of a job's newest checkpoint, optimizer included, by name."""
    world = make_world(Split(), torch.device("cpu"), experts=job.spec.experts > 0)
    engine = Engine(job.spec, job.seq_len, world, BuildOptions(seed=99), global_batch=BATCH)
    optimizer = build_optimizer(job.optimizer, dict(engine.named_parameters()), job.optim)
    tensors = tensors_of(engine, optimizer)
    facts = Checkpoints(job.folder / CHECKPOINTS).restore(tensors)
    assert facts is not None
    return tensors


def same_state(a: Job, b: Job, tolerance: float = 0.0) -> bool:
    """Return whether the newest checkpoints of two jobs agree, to the last bit unless said."""
    ours, theirs = state_of(a), state_of(b)
    assert ours.keys() == theirs.keys()
    return all(
        torch.allclose(tensor, theirs[name], rtol=tolerance, atol=tolerance)
        for name, tensor in ours.items()
    )


@contextlib.contextmanager
def at_call(number: int, act: Callable[[Engine], None]) -> Iterator[None]:
    """Do something after the nth forward and backward of this process, counted from 1."""
    with every_call(lambda engine, call: act(engine) if call == number else None):
        yield


@contextlib.contextmanager
def every_call(act: Callable[[Engine, int], object]) -> Iterator[None]:
    """Do something after each forward and backward of this process; it is told its number."""
    backward, calls = Engine.backward, [0]

    def watched(engine: Engine, samples: torch.Tensor) -> None:
        backward(engine, samples)
        calls[0] += 1
        act(engine, calls[0])

    with mock.patch.object(Engine, "backward", watched):
        yield


def crore(*words: str) -> list[str]:
    """Return the command line of crore with some words."""
    return [sys.executable, "-m", "crore", *words]


def words(root: Path, out: str = "run", **flags: Any) -> list[str]:
    """Return `train tiny` with flags, in the home `root`; None leaves a flag out."""
    given: dict[str, Any] = {
        "catalog": root / "tiny.toml", "data": root / "text", "cache": root / "cache",
        "out": root / out, "seq_len": SEQ_LEN, "global_batch": BATCH, "steps": STEPS, "gpus": 1,
        "precision": "fp32", "threads": 1, "lr": 0.01, "sample_every": 0, "evaluate_every": 0,
    }  # fmt: skip
    found = ["train", "tiny"]
    for name, value in (given | flags).items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not None:
            found += [flag, str(value)]
    return found


def ended(job: Job) -> str:
    """Return why a job's run ended; empty for one that was killed."""
    end = told(job).end
    return end.reason if end else ""


def records_of(job: Job) -> tuple[Record, ...]:
    """Return all records of a job's run."""
    return told(job).records
