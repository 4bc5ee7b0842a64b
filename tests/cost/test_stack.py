"""Software lines of published runs name the stack they ran on."""

from __future__ import annotations

from dataclasses import fields

import pytest

from crore.cost import stack_of
from crore.cost.schedules import SCHEDULE_NAMES
from crore.cost.stack import (
    FITTED,
    Stack,
    abilities_of,
    overlaps_messages,
    stack_for_software,
    stack_rows,
    without_overlap,
)
from crore.errors import UnknownName

EXPECTED = {
    "torchtitan": {"torchtitan"},
    "llm_foundry": {"fsdp"},
    "vtrain_single": {"megatron-deepspeed"},
    "vtrain_multi": {"megatron-deepspeed"},
    "bloom": {"bigscience-2022"},
    "megatron_bridge": {"nemo"},
    "megatron_papers": {"megatron-2021"},
    "simumax": {"megatron-2025"},
    "dgxc": {"nemo", "xla"},
}


def test_every_family_of_runs_gets_its_stack(published):
    found: dict[str, set[str]] = {}
    for family, software, year in zip(
        published.family, published.software, published.year, strict=True
    ):
        found.setdefault(str(family), set()).add(stack_for_software(software, year))
    assert {family: found[family] for family in EXPECTED} == EXPECTED


@pytest.mark.parametrize(
    ("software", "stack"),
    [
        ("torchtitan (PyTorch FSDP2)", "torchtitan"),
        ("MaxText on JAX", "xla"),
        ("NeMo 25.09", "nemo"),
        ("Megatron-LM, TransformerEngine 1.8", "megatron-2025"),
        ("Megatron-LM 2021", "megatron-2021"),
        ("Megatron-DeepSpeed 2022, CUDA_LAUNCH_BLOCKING=1", "bigscience-2022"),
        ("DeepSpeed 0.9", "megatron-deepspeed"),
        ("llm-foundry v0.4", "fsdp"),
        ("something of our own", "megatron-2025"),
    ],
)
def test_a_software_line_names_its_stack(software, stack):
    assert stack_for_software(software) == stack


def test_before_flash_attention_an_unknown_stack_is_megatron_of_its_year():
    assert stack_for_software("", 2021) == "megatron-2021"
    assert stack_for_software("", 2024) == "megatron-2025"


def test_a_line_may_say_that_nothing_overlaps():
    assert not overlaps_messages("NeMo, no communication overlap")
    assert overlaps_messages("NeMo 25.09")
    bare = without_overlap(stack_of("megatron-2025"))
    assert (bare.tp_overlap, bare.dp_overlap, bare.p2p_overlap) == (0, 0, 0)


@pytest.mark.parametrize("name", sorted(stack_rows()))
def test_every_row_builds_and_says_where_it_is_from(name):
    stack, row = stack_of(name), stack_rows()[name]
    assert all(isinstance(getattr(stack, f.name), float) for f in fields(Stack))
    assert 0 <= stack.code < len(FITTED)
    assert row["source"]
    assert str(row["date"])[:2] == "20"
    assert row.get("speeds_of", name) in FITTED
    # What somebody remembered nobody has verified.
    assert not (row["verified"] and "recalled" in row["source"])


def test_a_stack_with_16_bit_weights_keeps_master_weights_with_its_optimizer():
    """AdamW: two moments, and a 32-bit copy unless the weights are one (arXiv 1910.02054 §3.1)."""
    for name in stack_rows():
        stack = stack_of(name)
        moments_and_master = 8 if stack.weight_bytes == 4 else 12
        assert stack.optimizer_bytes >= moments_and_master, name


def test_an_unknown_stack_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="megatron-2025"):
        stack_of("megatron-2026")


@pytest.mark.parametrize(
    ("software", "year", "stack"),
    [
        ("Megatron-LM", 2021, "megatron-2021"),
        ("Megatron-LM", 2025, "megatron-2025"),
        ("Megatron-LM", None, "megatron-2025"),
        ("GPT-NeoX", 2022, "megatron-deepspeed"),
        ("MosaicML Composer", 2024, "fsdp"),
        ("JAX, T5X", 2023, "xla"),
        ("nemotron recipe of Megatron-LM", 2024, "megatron-2025"),
    ],
)
def test_a_bare_name_is_dated_by_its_year(software, year, stack):
    assert stack_for_software(software, year) == stack


@pytest.mark.parametrize("name", sorted(stack_rows()))
def test_a_stack_says_what_it_can_run_in_words_the_planner_knows(name):
    able = abilities_of(name)
    assert set(able.schedules) <= set(SCHEDULE_NAMES)
    assert set(able.zero) <= {0, 1, 2, 3}
    assert set(able.axes) <= {"tp", "pp", "cp", "ep"}
    assert set(able.offload) <= {"optimizer", "activations"}
    assert set(able.recovery) <= {"disk", "peer", "quorum", "islands"}
    assert "disk" in able.recovery
    assert able.schedules
    assert able.zero
    assert able.title
    assert able.source


def test_crore_alone_joins_worlds_and_islands():
    """A quorum of worlds: torchft (pytorch.org); Megatron and NeMo restart from disk."""
    joins = {name for name in stack_rows() if "quorum" in abilities_of(name).recovery}
    assert joins == {name for name in stack_rows() if "islands" in abilities_of(name).recovery}
    assert joins == {"crore"}


def test_fsdp_has_no_chunks_and_torchtitan_folds_them():
    assert "interleaved" not in abilities_of("fsdp").schedules
    assert {"zb-v", "dualpipe-v"} <= set(abilities_of("torchtitan").schedules)
    assert abilities_of("megatron-2021").zero == (0, 1)


def test_abilities_of_an_unknown_stack_name_the_nearest():
    with pytest.raises(UnknownName, match="megatron-2025"):
        abilities_of("megatron-2026")
