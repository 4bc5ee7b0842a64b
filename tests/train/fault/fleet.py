"""A small fleet on this machine, run by the supervisor as `crore train` runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from crore.catalog import load_catalog
from crore.cost import parameters
from crore.cost.shape import shape_of
from crore.io import cache_folder
from crore.model.split import Split
from crore.train.adamw import OptimSettings
from crore.train.data import parse_sources, prepare
from crore.train.fault.supervisor import Fleet, Supervisor
from crore.train.islands.settings import Outer
from crore.train.job import Every, Job, Text
from crore.train.outcome import Outcome
from crore.train.schedule import parse_ramp, parse_schedule

MODEL = "nano-1m"


def job_for(
    folder: Path, *, steps: int, batch: int = 6, seq_len: int = 64, outer: Outer | None = None,
    split: Split | None = None, seed: int = 0, checkpoint_every: int = 20, layers: int = 2,
    evaluation_rows: int = 16, source: str = "python",
) -> Job:  # fmt: skip
    """Return a job of the smallest model; `batch` sequences of all islands together."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(load_catalog().model(MODEL), layers=layers, vocab=512)
    return Job(
        spec=spec, split=split or Split(zero=1), seq_len=seq_len,
        ramp=parse_ramp("", batch, 1), schedule=parse_schedule("wsd", steps, warmup_steps=None),
        optimizer="adamw", optim=OptimSettings(lr=2e-3, weight_decay=0.1), clip=1.0,
        text=Text(
            sources=parse_sources(source), cache=cache_folder(), evaluation_rows=evaluation_rows
        ),
        folder=folder, device="cpu",
        every=Every(evaluation=0, checkpoint=checkpoint_every, sample=0), seed=seed, keep=2,
        threads=1, quiet=True, parameters=int(parameters(shape_of(spec))), outer=outer,
    )  # fmt: skip


def random_words(path: Path) -> str:
    """Write a text of 32 words in random order, and return where it is.

    After a hundred steps there is nothing more to learn of it. So runs that nothing happens to end
    with the same loss within 0.1 %, and one that does not is not well; of other text they learn
    several per cent more or less in a few hundred steps, whatever happens.
    """
    draws = np.random.default_rng(7)
    words = ["".join(draws.choice(list(ascii_lowercase), 5)) for _ in range(32)]
    picked = draws.choice(words, (5000, 12))
    path.write_text("\n".join(" ".join(line) for line in picked), encoding="utf-8")
    return str(path)


def prepared(job: Job) -> Job:
    """Have a job's text ready; return the job."""
    prepare(
        job.text.sources, cache=job.text.cache, vocab=job.spec.vocab, tokenizer=None,
        seq_len=job.seq_len, seed=job.seed,
    )  # fmt: skip
    return job


def run(job: Job, fleet: Fleet) -> Outcome:
    """Run a fleet to its end."""
    return Supervisor(job, fleet).run()
