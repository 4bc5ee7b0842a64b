"""Stages hold their layers; the schedule is told what passes between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.shapes import DENSE, FURTHER, WINDOWED, made, tokens
from tests.train.gloo import run
from torch import Tensor
from torch.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleZBVZeroBubble,
)

from crore.model import build_decoder
from crore.model.loss import Loss
from crore.model.mesh import World, make_world
from crore.model.parallelize import BuildOptions, build_parts
from crore.model.split import Split
from crore.model.stages import cut, make_schedule, stages_of


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 6))
def test_the_parts_of_a_cut_hold_each_layer_once_and_the_ends_at_the_ends(layers, stages):
    spec = replace(DENSE, layers=layers)
    held = []
    for stage in range(stages):
        part = cut(build_decoder(spec, 16), stages, stage)
        held += [int(name) for name in part.layers]
        assert (part.embedding is not None) == (stage == 0)
        assert (part.head is not None) == (part.norm is not None) == (stage == stages - 1)
    assert held == list(range(layers))


def test_prediction_modules_go_with_the_head():
    parts = [cut(build_decoder(FURTHER, 16, mtp=True), 2, stage) for stage in (0, 1)]
    assert [len(part.prediction) for part in parts] == [0, 2]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (Split(pp=2, schedule="gpipe"), [0]),
        (Split(pp=2, vpp=3, schedule="interleaved"), [0, 2, 4]),
        (Split(pp=2, schedule="zb-v"), [0, 3]),
        (Split(vpp=3, schedule="interleaved"), [0]),
    ],
)
def test_a_rank_runs_the_stages_of_its_chunks(split, expected):
    world = World(
        split=split, rank=0, device=torch.device("cpu"), dense=None, sparse=None, context=None
    )
    assert stages_of(world) == expected


SCHEDULES = {
    "gpipe": (1, ScheduleGPipe),
    "1f1b": (1, Schedule1F1B),
    "interleaved": (2, ScheduleInterleaved1F1B),
    "zb-v": (1, ScheduleZBVZeroBubble),
}
LOSSES = {"gpipe": 2, "interleaved": 2, "1f1b": 4, "zb-v": 4}
"""Micro-batches of each: an interleaved one is content with one for each rank."""


def run_each() -> dict[str, tuple[str, float, dict[str, Tensor | None]]]:
    """Run every schedule once; return its class, the nats seen by this rank, and its gradients."""
    found = {}
    samples = tokens(WINDOWED, 4, 17)
    for name, (vpp, _) in SCHEDULES.items():
        split = Split(pp=2, vpp=vpp, schedule=name, micro_batch=4 // LOSSES[name])
        world = make_world(split, torch.device("cpu"))
        parts = build_parts(WINDOWED, 16, world, BuildOptions())
        loss = Loss()
        loss.reset(64)
        schedule = make_schedule(parts, world, micro_batches=LOSSES[name], loss=loss)
        given = (samples[:, :-1],) if parts[0].embedding is not None else ()
        last = any(part.head is not None for part in parts)
        schedule.step(*given, target=samples[:, 1:] if last else None, losses=[] if last else None)
        grads = {key: p.grad for part in parts for key, p in part.named_parameters()}
        found[name] = type(schedule).__name__, float(loss.total), grads
    return found


def test_each_schedule_is_torchs_of_its_name_and_trains_on_the_whole_batch(tmp_path):
    alone, samples, loss = made(WINDOWED), tokens(WINDOWED, 4, 17), Loss()
    loss.reset(64)
    loss(alone(samples[:, :-1]), samples[:, 1:]).backward()
    expected = {name: p.grad for name, p in alone.named_parameters()}
    ranks = run(run_each, 2, tmp_path)
    for name, (_, kind) in SCHEDULES.items():
        said = [rank[name] for rank in ranks]
        assert [kinds for kinds, _, _ in said] == [kind.__name__] * 2
        # The head is on the last rank, and back on the first one in a V.
        nats = [0, float(loss.total)] if name != "zb-v" else [float(loss.total), 0]
        assert [seen for _, seen, _ in said] == pytest.approx(nats, rel=1e-6)
        grads = said[0][2] | said[1][2]
        assert set(grads) == set(expected)
        for key, grad in grads.items():
            assert torch.allclose(grad, expected[key], atol=1e-6), (name, key)
