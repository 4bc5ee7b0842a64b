"""Weights go in and out of a checkpoint one at a time, and into any layout."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.checkpoint.layouts import open_checkpoints

from crore.errors import InputError
from crore.train.checkpoint.manifest import Kind
from crore.train.checkpoint.weights import newest_weights, write_weights

KINDS = {"b.weight": Kind.of((3, 5), torch.float32), "a": Kind.of((4,), torch.bfloat16),
         "c.of.it": Kind.of((2, 2, 2), torch.float16)}  # fmt: skip


def value(name):
    kind = KINDS[name]
    draw = torch.Generator().manual_seed(len(name))
    return torch.randn(kind.shape, generator=draw).to(getattr(torch, kind.dtype))


@pytest.fixture
def folder(tmp_path):
    write_weights(tmp_path, KINDS, value, {"why": "a test"})
    return tmp_path


def test_what_was_written_is_read(folder):
    weights = newest_weights(folder)
    assert weights.kinds == KINDS
    assert (weights.step, weights.facts) == (0, {"why": "a test"})
    for name in KINDS:
        assert torch.equal(weights.read(name), value(name))


def test_no_two_are_in_memory_together(tmp_path):
    kinds = {f"weight.{n}": Kind.of((8, n + 1), torch.float32) for n in range(20)}
    alive: list[weakref.ref[Any]] = []
    most = []

    def read(name):
        memory = np.zeros(kinds[name].shape, dtype=np.float32)  # goes when its last tensor does
        alive.append(weakref.ref(memory))
        most.append(sum(1 for one in alive if one() is not None))
        return torch.from_numpy(memory)

    write_weights(tmp_path, kinds, read, {})
    assert len(most) == len(kinds)
    # The one that was written last is let go of when the next has come.
    assert max(most) <= 2


def test_they_are_asked_for_in_their_order(tmp_path):
    asked = []

    def read(name):
        asked.append(name)
        return value(name)

    write_weights(tmp_path, KINDS, read, {})
    assert asked == list(KINDS)


def test_types_follow_the_tensors_that_are_filled(folder):
    tensors = {name: torch.empty(kind.shape) for name, kind in KINDS.items()}
    newest_weights(folder).fill(tensors)
    assert all(torch.equal(tensors[name], value(name).float()) for name in KINDS)


def test_another_model_is_refused(folder):
    weights = newest_weights(folder)
    with pytest.raises(InputError, match=r"another model: a is \[4\] there, \[5\] here"):
        weights.fill({"a": torch.empty(5)})
    with pytest.raises(InputError, match="another model: d is not there"):
        weights.fill({"d": torch.empty(5)})


def test_what_cannot_be_read_leaves_nothing(tmp_path):
    def read(name):
        raise InputError(f"no {name}")

    with pytest.raises(InputError, match=r"no b\.weight"):
        write_weights(tmp_path / "c", KINDS, read, {})
    assert not list((tmp_path / "c").iterdir())


def test_a_damaged_checkpoint_is_passed_over_or_said(folder):
    other = {"a": KINDS["a"]}
    write_weights(folder, other, value, {"why": "again"})
    newest = max(folder.iterdir())
    assert newest_weights(folder).facts == {"why": "again"}
    (next(newest.glob("*.distcp"))).write_bytes(b"x")
    assert newest_weights(folder).facts == {"why": "a test"}
    for one in folder.glob("step-*/*.distcp"):
        one.write_bytes(b"x")
    with pytest.raises(InputError, match=r"no sound checkpoint in .* is damaged"):
        newest_weights(folder)
    with pytest.raises(InputError, match="no sound checkpoint"):
        newest_weights(folder / "none")


def test_of_a_runs_checkpoint_the_weights_alone_are_seen(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    state = {"model.a": torch.ones(3), "optimizer.a.momentum": torch.zeros(3)}
    checkpoints.save(4, state, {})
    checkpoints.wait()
    weights = newest_weights(tmp_path)
    assert list(weights.kinds) == ["a"]
    assert weights.step == 4
