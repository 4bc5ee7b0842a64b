"""Every argument exists in the release named, and says what the plan says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.launch import export
from crore.launch.megatron import RELEASE, arguments, stage_string

DATA = (Path(__file__).parent / "data" / "megatron_flags.txt").read_text(encoding="utf-8")
LISTED = [w.split(":") for it in DATA.splitlines() if not it.startswith("#") for w in it.split()]
FLAGS = {flag: rest for flag, *rest in LISTED}
"""Flag -> how many values it takes, and which, where that is said."""
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "interleaved": {"pp": 8, "vpp": 2, "schedule": "interleaved"},
    "uneven": {"pp": 5},
    "full": {"recompute": "full", "recompute_layers": 3, "stage_layers": 4},
    "all": {"recompute": "full", "recompute_layers": 4, "stage_layers": 4},
    "light": {"recompute": "light"},
    "selective": {"recompute": "selective"},
    "sharded": {"dp_shard": 8, "dp_replicate": 2, "zero": 1},
    "fully sharded": {"dp_shard": 8, "dp_replicate": 8, "zero": 3, "pp": 1},
    "overlap": {"tp": 8, "sequence_parallel": True, "tp_overlap": True},
    "offload": {"offload_optimizer": 0.5},
    "fp8": {"precision": "fp8"},
    "fp4": {"precision": "fp4"},
    "fp16": {"precision": "fp16"},
}
ONE_WORLD = ("dense", "405b", "experts", "one card", "processor")


def words(launch) -> dict[str, tuple[str, ...]]:
    """Return flag -> its values; a flag is given once."""
    found = arguments(launch)
    assert len({flag for flag, *_ in found}) == len(found)
    return {flag: tuple(values) for flag, *values in found}


def refused(found: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the flags that the release lacks, or that take other values than these."""
    return [flag for flag, values in found.items() if not takes(flag, values)]


def takes(flag: str, values: tuple[str, ...]) -> bool:
    """Return whether the release has a flag and it takes these values."""
    if flag not in FLAGS:
        return False
    count, among = (*FLAGS[flag], *["1", ""][len(FLAGS[flag]) :])
    enough = bool(values) if count == "+" else count == "*" or len(values) == int(count)
    return enough and (not among or set(values) <= set(among.split("|")))


def test_the_list_is_of_the_release_that_is_named(make):
    assert RELEASE in DATA
    assert len(FLAGS) == 845
    assert RELEASE in export("megatron", make("dense", {"zero": 1}), "{}").files[0].text


@pytest.mark.parametrize(
    "seeded",
    [("--bf17",), ("--bf16", "yes"), ("--seq-length",), ("--fp8-format", "e5m2"),
     ("--ckpt-format", "zip"), ("--recompute-modules",)],
    ids=" ".join,
)  # fmt: skip
def test_a_seeded_wrong_argument_is_found(make, seeded):
    found = words(make("dense", {"zero": 1}))
    assert refused(found) == []
    assert refused(found | {seeded[0]: seeded[1:]}) == [seeded[0]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ONE_WORLD)
def test_every_argument_exists(make, name, layout):
    given_words = words(make(name, {"zero": 1, "recompute": "none"} | LAYOUTS[layout]))
    assert refused(given_words) == []


def test_rare_models_arguments_exist(make):
    rare = make("experts", moe_every=2, first_dense=0, qkv_bias=True, qk_norm=True, norm="layer",
                position="learned", tied_embeddings=True, mla=None, kv_heads=8)  # fmt: skip
    found = words(rare)
    assert refused(found) == []
    assert found["--moe-layer-freq"] == ("2",)
    assert found["--num-query-groups"] == ("8",)
    assert "--untie-embeddings-and-output-weights" not in found


def test_they_multiply_to_the_plan(make):
    launch = make("405b")
    found = words(launch)
    model = [int(found[f"--{it}-parallel-size"][0])
             for it in ("tensor-model", "pipeline-model", "context")]  # fmt: skip
    replicas = launch.layout.ranks // (model[0] * model[1] * model[2])
    assert replicas == launch.layout.dp
    batch, micro = int(found["--global-batch-size"][0]), int(found["--micro-batch-size"][0])
    assert batch % (replicas * micro) == 0
    assert found["--train-iters"] == (str(launch.steps),)
    assert found["--hidden-size"] == ("16384",)
    assert found["--num-query-groups"] == ("8",)
    assert "--bf16" in found


def test_fully_sharded_is_megatrons_fsdp_without_what_that_refuses(make):
    launch = make("dense", LAYOUTS["fully sharded"])
    found = words(launch)
    assert found["--data-parallel-sharding-strategy"] == ("optim_grads_params",)
    assert found["--ckpt-format"] == ("fsdp_dtensor",)
    script = export("megatron", launch, "{}").files[0].text
    assert "unset CUDA_DEVICE_MAX_CONNECTIONS" in script
    assert "export CUDA_DEVICE_MAX_CONNECTIONS" not in script


def test_deepseek_v3_is_spelt_out(make):
    found = words(make("experts"))
    assert found["--moe-layer-freq"] == ("([0]*3+[1]*58)",)
    assert found["--kv-lora-rank"] == ("512",)
    assert found["--num-experts"] == ("256",)
    assert found["--recompute-modules"] == ("layernorm", "moe_act", "mla_up_proj")
    assert found["--pipeline-model-parallel-layout"][0].count("t") == 61


@given(layers=st.integers(1, 200), stages=st.integers(1, 64), end_slots=st.booleans())
def test_a_spelt_split_holds_every_layer_and_is_even(layers, stages, end_slots):
    if layers + 2 * end_slots < stages or (end_slots and stages == 1):
        return
    parts = stage_string(layers, stages, end_slots=end_slots).split("|")
    assert len(parts) == stages
    assert parts[0][0] == "E"
    assert parts[-1][-1] == "L"
    counts = [part.count("t") for part in parts]
    assert sum(counts) == layers
    if end_slots:
        counts[0] += 1
        counts[-1] += 1
    assert max(counts) - min(counts) <= 1
    assert counts[0] == min(counts)


@pytest.mark.parametrize(
    "layout",
    [
        {"pp": 8, "schedule": "zb-v"}, {"dp_shard": 8, "zero": 3, "pp": 2}, {"precision": "fp6"},
        {"offload_activations": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_what_would_train_something_else_is_refused(make, layout):
    with pytest.raises(InputError, match="Megatron-LM does not run"):
        export("megatron", make("dense", {"zero": 1} | layout), "{}")


@pytest.mark.parametrize(
    "spec", [{"position": "alibi"}, {"window": 4096}, {"parallel_block": True}]
)
def test_a_model_that_it_would_not_build_is_refused(make, spec):
    with pytest.raises(InputError, match="does not write for Megatron-LM"):
        export("megatron", make("dense", {"zero": 1}, **spec), "{}")


def test_states_in_host_memory_take_the_optimizer_that_can_do_it(make):
    found = words(make("dense", {"zero": 1, "offload_optimizer": 0.5}))
    assert found["--optimizer-offload-fraction"] == ("0.5",)
    assert "--use-precision-aware-optimizer" in found


def test_a_fleet_is_not_so_many_models(make):
    with pytest.raises(InputError, match="1,920 worlds as one model"):
        export("megatron", make("fleet"), "{}")
