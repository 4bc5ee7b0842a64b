"""A plan rehearsed as a user does: what is refused, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.rehearse.plans import PLANS

from crore.cli import run
from crore.rehearse import rehearsal
from crore.rehearse.above import worlds_disagree
from crore.rehearse.classes import representatives, untraced
from crore.rehearse.fake import rehearse
from crore.rehearse.rehearsal import rehearse_plan

PINS = "pp=4,tp=2,dp_shard=2,zero=1,schedule=1f1b,micro_batch=1,recompute=none"
COMMAND = [
    "plan", "nano-20m", "--gpu", "h100-sxm", "--gpus", "16", "--stack", "crore", "--seq-len", "256",
    "--global-batch", "32", "--precision", "fp32", "--tokens", "1B", "--fix", PINS,
]  # fmt: skip


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    """A plan of 16 ranks with four pipeline ranks."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert run([*COMMAND, "-o", str(path)]) == 0
    return path


@pytest.fixture
def plan(plan_file):
    """Its body."""
    return json.loads(plan_file.read_text())


def spec_of(plan):
    from crore.catalog import load_catalog

    return load_catalog().model(plan["request"]["model"])


def test_a_plan_of_the_trainer_agrees_with_it(plan):
    done = rehearse_plan(plan, spec_of(plan), 5, "all")
    assert done.agrees, [row for rows in done.rows.values() for row in rows if not row.same]
    assert done.untraced == []


def test_the_verb_writes_its_file_and_says_what_it_found(plan_file, tmp_path, capsys):
    out = tmp_path / "rehearsal.json"
    assert run(["rehearse", str(plan_file), "--rank", "5", "--agree", "one", "-o", str(out)]) == 0
    assert capsys.readouterr().out.startswith("AGREES  1 rank traced")
    body = json.loads(out.read_text())
    assert body["schema"] == "crore.rehearsal/1"
    assert body["agrees"] is True
    assert body["ranks"][0]["rank"] == 5


def test_a_stage_that_runs_out_of_memory_only_in_the_middle_is_named():
    """The first layer is dense, the last rank has fewest micro-batches: a middle one is fullest."""
    work = next(case for case in PLANS if case.name == "ep pp")._replace(rounds=8).work()
    split = replace(work.split, pp=4, dp_shard=1, ep=1, zero=1)
    work = replace(work, spec=replace(work.spec, first_dense=1), split=split, global_batch=8)
    traces = [rehearse(work, rank) for rank in range(4)]
    peaks = [trace.peak_bytes for trace in traces]
    most, second = sorted(peaks, reverse=True)[:2]
    plan = {"memory_split_bytes": {}, "memory_capacity_bytes": (most + second) / 2}
    needs = [rehearsal.needed_bytes(plan, work, trace) for trace in traces]
    pairs = zip(traces, needs, strict=True)
    found = [f for t, n in pairs for f in rehearsal.does_not_fit(plan, work, t, n)]
    assert [f.ranks for f in found] == [(1,)]
    assert "rank 1 (pipeline rank 1 of 4) needs" in found[0].text


def test_one_world_with_another_layout_is_named():
    work = next(case for case in PLANS if case.name == "pp").work()
    other = replace(work, split=replace(work.split, pp=2, tp=2))
    traces = {world: rehearse(other if world == 3 else work, 1) for world in range(5)}
    (finding,) = worlds_disagree(traces)
    assert finding.text.startswith("world 3 has another layout: its rank 1 holds")
    assert worlds_disagree({w: t for w, t in traces.items() if w != 3}) == []


def test_a_layout_that_does_not_divide_is_one_line(plan_file, tmp_path, capsys):
    body = json.loads(plan_file.read_text())
    body["layout"]["tp"], body["layout"]["dp_shard"] = 3, 2
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(body))
    assert run(["rehearse", str(path)]) == 2
    assert "tp 3 does not divide" in capsys.readouterr().err


def test_a_plan_of_another_stack_is_one_line(tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert run(["plan", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpus", "8", "-o", str(path)]) == 0
    capsys.readouterr()
    assert run(["rehearse", str(path)]) == 2
    assert "plan it with --stack crore" in capsys.readouterr().err


def test_a_rank_beyond_the_fleet_is_one_line(plan_file, capsys):
    assert run(["rehearse", str(plan_file), "--rank", "16"]) == 2
    assert "--rank is 0 to 15 in this plan, not 16" in capsys.readouterr().err
    assert run(["rehearse", str(plan_file), "--rank", "-1"]) == 2


def test_an_unknown_reach_is_one_line(plan_file, capsys):
    assert run(["rehearse", str(plan_file), "--agree", "nearby"]) == 2
    assert "near" in capsys.readouterr().err


def test_an_interrupt_leaves_a_report_marked_so(plan, monkeypatch):
    seen = []

    def interrupted(work, rank):
        seen.append(rank)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return rehearse(work, rank)

    monkeypatch.setattr(rehearsal, "rehearse", interrupted)
    done = rehearse_plan(plan, spec_of(plan), 0, "all")
    assert done.interrupted
    assert len(done.traces) == 1


def test_representatives_are_the_rank_its_neighbours_and_the_edges(plan):
    from crore.rehearse.place import work_of

    split = work_of(plan, spec_of(plan)).split
    assert representatives(split, 5, "one") == [5]
    assert representatives(split, 5, "near") == [5, 1, 9, 13, 4, 7]
    assert untraced(split, [0, 5]) == [2, 3]
