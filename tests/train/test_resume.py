"""A run that is interrupted goes on as if it had not been: to the last bit, or under any layout."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.train.tiny import (
    BATCH,
    STEPS,
    at_call,
    events_of,
    home,
    job,
    records_of,
    same_state,
    steps_of,
)
from tests.train.worlds import carry_out

from crore.errors import InputError
from crore.train.adamw import OptimSettings
from crore.train.data import Dataset, parse_sources, prepare
from crore.train.history import gaps
from crore.train.job import Job
from crore.train.outcome import Outcome
from crore.train.resume import finished, steps_done
from crore.train.schedule import parse_ramp, parse_schedule

FINISHED = Outcome(reason="finished", message="", exit_code=0)
ASKED = Outcome.asked(signal.SIGTERM)
FSDP2, FSDP4 = {"dp_shard": 2}, {"dp_shard": 4}
TP2 = {"tp": 2, "sequence_parallel": True}
PP2 = {"pp": 2}


@contextlib.contextmanager
def leaving(calls: int, rank: int) -> Iterator[None]:
    """Ask rank 0 to end in its nth step of this process; the others hear of it from rank 0."""
    number = signal.SIGTERM if rank == 0 else 0
    with at_call(calls, lambda _: os.kill(os.getpid(), number)):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def whole(root):
    """Return the uninterrupted run on one rank."""
    made = job(root, "whole")
    assert carry_out(made) == FINISHED
    return made


SPECIAL = {
    "model": "tiny-moe", "optimizer": "muon", "ramp": parse_ramp("4:4:20", BATCH),
    "schedule": parse_schedule("cosine", STEPS), "optim": OptimSettings(lr=3e-3),
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, SPECIAL, FSDP2], ids=["one", "moe-muon-ramp", "fsdp2"])
def test_interrupted_twice_it_is_the_same_run_to_the_last_bit(tmp_path, changes):
    home(tmp_path)
    straight, broken = (job(tmp_path, out, **changes) for out in ("straight", "broken"))
    assert carry_out(straight) == FINISHED
    for calls in (5, 2):
        assert carry_out(broken, functools.partial(leaving, calls)) == ASKED
    assert carry_out(broken) == FINISHED
    assert steps_of(broken) == steps_of(straight)
    assert same_state(broken, straight)
    assert gaps(records_of(broken)) == []
    assert len(events_of(broken, "resume")) == 2


CHAINS = {
    "1-2-1": ("tiny", [{}, FSDP2, {}]),
    "fsdp4-fsdp2": ("tiny", [FSDP4, FSDP2]),
    "fsdp2-tp2": ("tiny", [FSDP2, TP2]),
    "pp2-fsdp2": ("tiny", [PP2, FSDP2]),
    "ep2-1": ("tiny-moe", [{"dp_shard": 2, "ep": 2}, {}]),
}
DRILLED = {
    "4-2-8": ("tiny", [FSDP4, FSDP2, {"dp_shard": 8}]),
    "hsdp-tp-pp": ("tiny", [{"dp_replicate": 2, "dp_shard": 2}, TP2, {"pp": 2, "tp": 2}, {}]),
    "cp2-fsdp2": ("tiny", [{"cp": 2}, FSDP2]),
    "1-ep4-ep2": ("tiny-moe", [{}, {"dp_shard": 4, "ep": 4}, {"dp_shard": 2, "ep": 2}]),
}


def goes_on(root, name, model, layouts):
    """Run four steps under each layout and the rest under the last; compare with one rank."""
    straight = job(root, f"{name}-straight", model=model)
    assert carry_out(straight) == FINISHED
    for number, layout in enumerate(layouts, start=1):
        broken = job(root, name, model=model, **layout)
        if number < len(layouts):
            assert carry_out(broken, functools.partial(leaving, 4)) == ASKED
    assert carry_out(broken) == FINISHED
    ours, theirs = np.array(steps_of(broken)), np.array(steps_of(straight))
    np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])  # steps, samples
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours[:, 3], theirs[:, 3], rtol=1e-3)
    assert same_state(broken, straight, 1e-3)
    assert gaps(records_of(broken)) == []


@pytest.mark.parametrize("name", CHAINS)
def test_another_layout_goes_on_within_rounding(root, name):
    goes_on(root, name, *CHAINS[name])


@pytest.mark.drill
@pytest.mark.parametrize("name", DRILLED)
def test_more_layouts_go_on_within_rounding(root, name):
    goes_on(root, name, *DRILLED[name])


def test_another_batch_neither_skips_nor_repeats_a_sample(tmp_path):
    first = job(home(tmp_path))
    assert carry_out(first, functools.partial(leaving, 3)) == ASKED
    second = job(tmp_path, ramp=parse_ramp("", 2 * BATCH))
    assert carry_out(second) == FINISHED
    assert [sample for _, sample, _, _ in steps_of(second)][2:5] == [16, 24, 40]
    assert gaps(records_of(second)) == []


def test_more_steps_go_on_with_the_schedule_of_the_longer_run(tmp_path):
    short, long = (job(home(tmp_path), "both", steps=n) for n in (4, 8))
    straight = job(tmp_path, "straight", steps=8)
    assert [carry_out(one) for one in (short, long, straight)] == [FINISHED] * 3
    warm = parse_schedule("wsd", 4).warmup_steps == parse_schedule("wsd", 8).warmup_steps
    assert warm
    assert steps_of(long)[:3] == steps_of(straight)[:3]  # the shorter one decays from there on
    assert [step for step, *_ in steps_of(long)] == list(range(1, 9))
    assert gaps(records_of(long)) == []


def data_of(made: Job) -> Dataset:
    text = made.text
    return prepare(
        text.sources, cache=text.cache, vocab=made.spec.vocab, tokenizer=text.tokenizer,
        seq_len=made.seq_len, seed=made.seed,
    )  # fmt: skip


def test_steps_done_are_those_of_the_newest_checkpoint(root, whole):
    data = data_of(whole)
    assert steps_done(job(root, "nothing"), data) == 0
    assert steps_done(whole, data) == STEPS
    (newest,) = (whole.folder / "checkpoint").glob("*12")
    (newest / "manifest.json").write_text("{}")
    assert steps_done(whole, data) == 8
    assert "has done 12 steps: --steps 24" in finished(whole, 12)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": 1}, "another seed: 0 there, 1 here"),
        ({"seq_len": 8}, "another sequence length: 16 there, 8 here"),
        ({"model": "tiny-moe"}, "another model: tiny there, tiny-moe here"),
        ({"optimizer": "muon"}, "another optimizer: adamw there, muon here"),
        ({"spec": {"heads": 2, "kv_heads": 2, "head_dim": 16}}, "another shape of the model;"),
        ({"text": 30}, "another text or tokenizer;"),
        ({"weights": "3:text,1:text"}, "another text or tokenizer;"),
    ],
)  # fmt: skip
def test_another_run_is_refused_in_one_line(root, changes, word):
    changes = dict(changes)
    shape, documents, weights = (changes.pop(k, None) for k in ("spec", "text", "weights"))
    other = job(root, "whole", **changes)
    if shape:
        other = replace(other, spec=replace(other.spec, **shape))
    if documents or weights:
        (root / "less").mkdir(exist_ok=True)
        for path in sorted((root / "text").iterdir())[:documents]:
            (root / "less" / path.name).write_text(path.read_text())
        names = f"3:{root}/text,1:{root}/less" if weights else f"{root}/less"
        other = replace(other, text=replace(other.text, sources=parse_sources(names)))
    with pytest.raises(InputError, match=word) as told:
        steps_done(other, data_of(other))
    assert "--fresh" in str(told.value)
    assert "\n" not in str(told.value)
