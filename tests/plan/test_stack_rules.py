"""What a stack's code cannot run is said in the catalogue's words and refused with a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.cost.stack import abilities_of, stack_rows
from crore.errors import CroreError, Infeasible
from crore.plan import Limits, PlanRequest, check_mission, make_plan
from crore.plan.axes import axes_of
from crore.plan.candidates import size
from crore.plan.resolve import resolve
from crore.plan.search import search
from crore.plan.space import cells_of
from crore.plan.stack_rules import CELLS, POINTS, SETTINGS, SPLITS, WORDS, least_rounds

LLAMA = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=32, tokens=10**11, seq_len=4096, global_batch=64,
    stack="crore",
)  # fmt: skip
MIXTRAL = replace(LLAMA, model="mixtral-8x7b")
FLEET = replace(LLAMA, gpus=100, limits=Limits(world_gpus=16))


def why(request, exit_code=1):
    with pytest.raises(CroreError) as caught:
        make_plan(request)
    assert caught.value.exit_code == exit_code
    assert len(str(caught.value)) <= 240
    return str(caught.value)


def test_every_word_of_the_catalogue_is_known_and_every_known_word_used():
    used = {word for name in stack_rows() for word in abilities_of(name).rules}
    assert used == WORDS


def test_only_the_trainer_of_this_project_is_held_to_its_own_refusals():
    assert [name for name in stack_rows() if abilities_of(name).rules] == ["crore"]


def test_a_rule_of_a_table_is_a_mask_of_every_candidate():
    q = resolve(LLAMA)
    cells = cells_of(q, axes_of(q), lambda grid: np.ones(size(grid), dtype=bool)).candidates
    for table in (SPLITS, POINTS, CELLS, SETTINGS):
        for word, rule in table.items():
            mask = np.broadcast_to(rule.broken(q, cells), size(cells))
            assert mask.dtype == bool, word
            assert rule.reason


@pytest.mark.parametrize(
    ("request_", "fix", "reason"),
    [
        (LLAMA, {"tp": 16}, "tp does not divide the key-value heads"),
        (replace(LLAMA, model="gpt2", seq_len=1024), {"tp": 2}, "does not divide the vocabulary"),
        (LLAMA, {"tp": 8, "cp": 8}, "cp does not divide the attention heads of a rank"),
        (MIXTRAL, {"tp": 2, "etp": 2}, "does not split an expert's products"),
        (MIXTRAL, {"tp": 2, "sequence_parallel": 0}, "experts with tp need sequence parallelism"),
        (MIXTRAL, {"ep": 8, "tp": 1, "cp": 1, "zero": 3, "dp_shard": 4, "pp": 1},
         "ep does not divide the ranks of a sharded replica"),
        (LLAMA, {"pp": 16, "micro_batch": 16, "schedule": "1f1b"},
         "fewer micro-batches than pipeline stages"),
        (LLAMA, {"pp": 4, "schedule": "dualpipe"}, "does not run the pipeline schedule"),
        (LLAMA, {"offload": "optimizer"}, "cannot keep in host memory"),
        (LLAMA, {"pp": 2, "schedule": "zb-v", "zero": 3}, "after fully sharded weights have gone"),
        (LLAMA, {"pp": 2, "schedule": "zb-v", "recompute": "light"}, "once for each weight"),
        (LLAMA, {"pp": 2, "schedule": "zb-v", "recompute": "selective"}, "once for each weight"),
        (LLAMA, {"pp": 2, "schedule": "zb-v", "recompute": "full"}, "once for each weight"),
        (replace(LLAMA, model="llama3.2-1b"), {"pp": 2, "schedule": "zb-v"}, "a tied table"),
        (FLEET, {"tp": 16}, "tp does not divide the key-value heads"),
    ],
)  # fmt: skip
def test_a_pin_that_the_trainer_cannot_run_is_refused_with_the_reason(request_, fix, reason):
    assert reason in why(replace(request_, fix=fix))
    elsewhere = replace(request_, stack="torchtitan", fix=fix)
    if not resolve(request_).is_fleet and "offload" not in fix:
        assert reason not in str(search(resolve(elsewhere)).rejected)


def test_layers_and_formats_that_no_layout_helps_are_refused_before_a_search():
    hybrid = replace(LLAMA, model="nemotron-h-56b")
    assert "does not build (Mamba-2" in why(hybrid, exit_code=2)
    assert make_plan(replace(hybrid, stack="megatron-2025")).plan.gpus == 32
    old = replace(LLAMA, gpu="v100-sxm-32gb")
    assert "fp32, bf16 or fp8, not fp16" in why(old, exit_code=2)


@pytest.mark.parametrize(
    ("request_", "reasons"),
    [
        (LLAMA, ("attention heads of a rank", "once for each weight", "less than gpipe")),
        (MIXTRAL, ("need sequence parallelism", "an expert's products", "weights have gone")),
        (replace(LLAMA, model="gemma2-2b"), ("key-value heads", "a tied table")),
    ],
)
def test_reasons_are_counted(request_, reasons):
    rejected = search(resolve(request_)).rejected
    elsewhere = search(resolve(replace(request_, stack="torchtitan"))).rejected
    for words in reasons:
        assert any(words in reason for reason in rejected), words
        assert not any(words in reason for reason in elsewhere), words


def test_gpipe_takes_over_where_micro_batches_leave_stages_idle_and_only_there():
    idle = replace(LLAMA, seq_len=1024, fix={"pp": 16, "micro_batch": 16})
    assert make_plan(idle).plan.layout["schedule"] == "gpipe"
    filled = replace(LLAMA, fix={"pp": 2, "recompute": "light", "zero": 3})
    assert make_plan(filled).plan.layout["schedule"] in ("1f1b", "interleaved")
    pinned = replace(LLAMA, fix={"pp": 2, "schedule": "gpipe"})
    assert make_plan(pinned).plan.layout["schedule"] == "gpipe"


def test_zb_v_recomputes_nothing():
    fix: dict[str, int | str] = {"pp": 4, "schedule": "zb-v", "tp": 1, "cp": 1, "micro_batch": 1}
    tight = replace(LLAMA, fix=fix, limits=Limits(memory_bytes=30_000_000_000))
    with pytest.raises(Infeasible):
        make_plan(tight)
    assert make_plan(replace(LLAMA, fix=fix)).plan.layout["recompute"] == "none"
    assert make_plan(replace(tight, stack="torchtitan")).plan.layout["recompute"] == "light"


def test_a_fleet_uses_as_many_worlds_as_have_a_micro_batch_for_every_stage():
    q = resolve(FLEET)
    pp = np.array([1.0, 4.0])
    assert [list(rounds) for rounds in least_rounds(q, pp)] == [[1, 1], [1, 4], [1, 8]]
    pinned = replace(q, request=replace(FLEET, fix={"schedule": "zb-v"}))
    assert [list(rounds) for rounds in least_rounds(pinned, pp)] == [[1, 8]]


def test_a_mission_with_a_pin_that_does_not_split_says_so_at_its_line(tmp_path):
    mission = tmp_path / "mine.toml"
    mission.write_text(
        'model = "llama3-8b"\nstack = "crore"\n[data]\ntokens = "1T"\n[cluster]\n'
        'gpu = "h100-sxm"\ngpus = 32\n[fix]\ntp = 16\n'
    )
    problems = check_mission(str(mission)).problems
    assert [(it.key, "key-value heads" in it.text) for it in problems] == [("fix.tp", True)]
