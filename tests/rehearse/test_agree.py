"""Ranks that agree, and the faults that would hang a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.rehearse.plans import PLANS, traced
from torch.distributed.pipelining import PipelineStage

from crore.model.refuse import check_runnable
from crore.rehearse import trace
from crore.rehearse.agree import RankList, disagreements
from crore.rehearse.fake import rehearse
from crore.rehearse.trace import Work
from crore.train import update
from crore.train.engine import Engine

SMALL = [
    case for case in PLANS if case.model in ("dense", "experts") and case.work().split.ranks <= 8
]


def lists_of(name: str, fault: Callable[[int], Work] | None = None) -> list[RankList]:
    """Return what all ranks of a plan issue; `fault` may change what a rank is given, or itself."""
    ranks = range(next(case for case in PLANS if case.name == name).work().split.ranks)
    traces = [rehearse(fault(rank), rank) if fault else traced(name, rank) for rank in ranks]
    return [RankList(rank=it.rank, messages=it.messages, groups=it.groups) for it in traces]


@pytest.mark.parametrize("case", PLANS, ids=lambda case: case.name)
def test_every_plan_is_one_that_the_trainer_runs(case):
    work = case.work()
    check_runnable(
        work.spec, work.split, seq_len=work.seq_len, global_batch=work.global_batch, device="cpu",
        compiled=False,
    )  # fmt: skip


EVERY_DAY = ("zero3", "tp sequence", "cp", "pp", "interleaved shards", "zero bubble", "ep pp")
NAMES = [
    pytest.param(case.name, marks=[pytest.mark.drill] * (case.name not in EVERY_DAY))
    for case in SMALL
]


@pytest.mark.parametrize("name", NAMES)
def test_all_ranks_of_a_plan_agree(name):
    assert disagreements(lists_of(name)) == []


def test_two_operations_in_another_order_on_one_rank_are_named(monkeypatch):
    """One rank tells its norm to all before it sums the tied table with the other end."""
    work = next(case for case in PLANS if case.name == "composed").work()
    sums, finish = update.shared_sums, Engine._finish

    def late(engine, *rest):
        done = sums(engine, *rest)
        finish(engine)
        return done

    def fault(rank):
        swapped = rank == 2
        monkeypatch.setattr(trace, "shared_sums", late if swapped else sums)
        monkeypatch.setattr(Engine, "_finish", (lambda _: None) if swapped else finish)
        return work

    (finding,) = disagreements(lists_of("composed", fault))
    assert finding.kind == "hang"
    assert 2 in finding.ranks
    assert "rank 2 waits at its operation" in finding.text
    assert "on world" in finding.text


def test_a_missing_receive_is_named(monkeypatch):
    work = next(case for case in PLANS if case.name == "pp").work()
    receive = PipelineStage.get_bwd_recv_ops

    def fault(rank):
        def forgetful(stage, micro_batch):
            found = receive(stage, micro_batch)
            return [] if rank == 1 and micro_batch == 1 else found

        monkeypatch.setattr(PipelineStage, "get_bwd_recv_ops", forgetful)
        return work

    (finding,) = disagreements(lists_of("pp", fault))
    assert finding.kind == "hang"
    assert finding.ranks == (2, 1)
    assert "rank 2 does send to rank 1" in finding.text
    assert "which rank 1 never receives" in finding.text


def test_an_uneven_shard_is_named():
    work = next(case for case in PLANS if case.name == "zero3").work()

    def fault(rank):
        wider = replace(work.spec, ffn=work.spec.ffn + 8)
        return replace(work, spec=wider) if rank == 3 else work

    (finding,) = disagreements(lists_of("zero3", fault))
    assert finding.kind == "mismatch"
    assert 3 in finding.ranks
    assert "all_gather" in finding.text
