"""A published run becomes the job it describes; what it leaves open is the fastest that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crore.catalog import load_catalog, read_runs
from crore.cost import memory, operations
from crore.cost.layout import RECOMPUTE, ZERO
from crore.errors import InputError, UnknownName
from crore.plan.published import (
    LAYOUT,
    job_of,
    jobs_of,
    join_jobs,
    layout_of,
    named_job,
    predictable,
    with_known_recompute,
    with_layout,
)

CATALOG = load_catalog()
RUNS = [run for run in read_runs(Path(__file__).parents[1] / "published/runs.jsonl")
        if run.scorable]  # fmt: skip
WHOLE = next(
    run for run in RUNS
    if all(getattr(run, name) is not None for name in LAYOUT) and run.ep is None and run.vpp is None
)  # fmt: skip


def test_a_run_is_predictable_when_it_says_what_a_step_computes():
    assert predictable(WHOLE)
    assert not predictable(replace(WHOLE, seq_len=None))
    assert not predictable(replace(WHOLE, global_batch=None))
    assert not predictable(replace(WHOLE, precision=None))


def test_a_whole_layout_stays_as_printed():
    assert with_layout(WHOLE, CATALOG) is WHOLE


def test_what_is_printed_is_kept_and_the_rest_is_found():
    open_run = replace(WHOLE, tp=None, micro_batch=None, dp=None)
    found = with_layout(open_run, CATALOG)
    assert all(getattr(found, name) is not None for name in LAYOUT)
    assert (found.pp, found.cp) == (WHOLE.pp, WHOLE.cp)
    assert float(job_of(found, CATALOG).layout.gpus) == WHOLE.gpus


def test_a_layout_that_contradicts_itself_names_the_run():
    wrong = replace(WHOLE, pp=7, tp=None, gpus=16, model="llama3-8b", dp=None)
    with pytest.raises(InputError, match=f"run '?{WHOLE.id[:10]}.*no layout agrees"):
        named_job(wrong, CATALOG)


def test_an_unknown_model_names_the_run():
    with pytest.raises(UnknownName, match="model in run"):
        named_job(replace(WHOLE, model="llama9-8b"), CATALOG)


def test_every_gpu_of_a_run_is_in_its_layout():
    jobs = [named_job(run, CATALOG) for run in RUNS[::40]]
    for job, run in zip(jobs, RUNS[::40], strict=True):
        assert float(job.layout.gpus) == run.gpus, run.id


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"recompute": "selective", "recompute_modules": ("mlp",)}, "light"),
        ({"recompute": "selective", "recompute_modules": ("core_attn", "mlp")}, "selective"),
        ({"recompute": None}, "none"),
        ({"recompute": "full"}, "full"),
    ],
)
def test_recompute_by_named_modules_is_light_without_the_attention_core(fields, expected):
    run = replace(WHOLE, **fields)
    layout = layout_of(run, CATALOG.model(run.model), expert_tp=False)
    assert RECOMPUTE[int(layout.recompute)] == expected


def test_sharding_defaults_to_a_distributed_optimizer_over_all_data_ranks():
    run = replace(WHOLE, dp=8, sharding=None, sharding_group=None)
    layout = layout_of(run, CATALOG.model(run.model), expert_tp=False)
    assert (ZERO[int(layout.zero)], layout.dp_shard, layout.dp_replicate) == ("zero1", 8, 1)
    hybrid = replace(run, sharding="zero3", sharding_group=4)
    layout = layout_of(hybrid, CATALOG.model(run.model), expert_tp=False)
    assert (ZERO[int(layout.zero)], layout.dp_shard, layout.dp_replicate) == ("zero3", 4, 2)


def test_offloaded_layers_are_a_share_of_the_models():
    model = CATALOG.model(WHOLE.model)
    run = replace(WHOLE, offload=f"activations of {model.layers // 2} layers to CPU")
    assert layout_of(run, model, expert_tp=False).offload_activations == pytest.approx(
        (model.layers // 2) / model.layers
    )


def test_a_stated_network_is_shared_by_the_gpus_of_a_node():
    run = replace(WHOLE, gpus_per_node=8, network_gbit_per_node=800.0)
    assert float(job_of(run, CATALOG).machine.nic_bytes_per_s) == pytest.approx(100e9 / 8)


def test_runs_priced_together_are_the_runs_priced_alone():
    few = RUNS[::150]
    together = jobs_of(few, CATALOG)
    alone = [join_jobs([run], [named_job(run, CATALOG)]) for run in few]
    for index, job in enumerate(alone):
        for name in ("tp", "pp", "recompute", "micro_batch"):
            whole = np.broadcast_to(getattr(together.layout, name), (len(few),))
            assert whole[index] == np.ravel(getattr(job.layout, name))[0]


def test_unknown_recompute_is_the_cheapest_that_fits_and_a_known_one_stays():
    job = jobs_of(RUNS[::60], CATALOG)
    size = len(RUNS[::60])
    known = with_known_recompute(job, np.zeros(size, dtype=bool))
    assert np.array_equal(known.layout.recompute, job.layout.recompute)
    open_job = with_known_recompute(job, np.ones(size, dtype=bool))
    mode = np.asarray(open_job.layout.recompute)
    fits = np.asarray(memory(open_job, operations(open_job)).fits, dtype=bool)
    assert (fits | (mode == RECOMPUTE.index("full"))).all()
    cheaper = replace(
        open_job, layout=replace(open_job.layout, recompute=np.maximum(mode - 1, 0.0))
    )
    would = np.asarray(memory(cheaper, operations(cheaper)).fits, dtype=bool)
    assert not (would & (mode > 0)).any()
