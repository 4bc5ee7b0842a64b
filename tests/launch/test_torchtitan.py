"""torchtitan's words exist in 0.3.0, its own parser takes them, and they say what the plan says."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.errors import InputError, UnknownName
from crore.launch import export
from crore.launch.torchtitan import CONFIGS, flags, split_evenly

DATA = (Path(__file__).parent / "data" / "torchtitan_words.txt").read_text(encoding="utf-8")
WORDS = {line for line in DATA.splitlines() if not line.startswith("#")}
PLANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pipeline": {"pp": 8, "dp_shard": 8, "dp_replicate": 1, "schedule": "1f1b"},
    "zero bubble": {"pp": 4, "dp_shard": 8, "dp_replicate": 2, "schedule": "zb-v"},
    "tensor": {"tp": 8, "dp_shard": 8, "dp_replicate": 1, "sequence_parallel": False},
    "experts": {"ep": 8, "dp_shard": 64, "dp_replicate": 1},
    "fp32": {"precision": "fp32", "recompute": "full", "zero": 3, "dp_shard": 64},
}


@pytest.mark.parametrize("layout", PLANS)
def test_every_word_exists(make, layout):
    *options, recompute = flags(make("dense", {"recompute": "none"} | PLANS[layout]))
    assert recompute in WORDS
    assert {w for w in options if w.startswith("--") and "." in w} <= WORDS
    module, function = (options[options.index(f"--{it}") + 1] for it in ("module", "config"))
    assert f"{module} {function}" in WORDS


def test_the_configurations_exist_and_have_the_catalogues_shapes():
    for name, configs in CONFIGS.items():
        spec = load_catalog().model(name)
        for config in configs:
            assert f"{config.module} {config.function}" in WORDS
            shape = (config.layers, config.hidden, config.vocab)
            assert shape == (spec.layers, spec.hidden, spec.vocab)


def test_the_batch_of_a_pipeline_is_its_micro_batches(make):
    launch = make("dense", PLANS["pipeline"])
    words = flags(launch)
    local = int(words[words.index("--training.local_batch_size") + 1])
    assert local * launch.layout.dp == launch.sequences
    assert "Interleaved1F1B" in flags(make("dense", {"pp": 2, "vpp": 2, "schedule": "interleaved"}))


@given(layers=st.integers(1, 200), stages=st.integers(2, 64))
def test_layers_per_stage_give_the_stages(layers, stages):
    found = split_evenly(layers, stages)
    assume(found is not None)
    assert found is not None
    each, first, last = found
    assert math.ceil((layers + first + last) / each) == stages
    assert (layers + first + last) // stages >= max(first, last)


def test_llama_405b_stages_need_a_short_end():
    assert split_evenly(126, 64) == (2, 0, 1)
    assert split_evenly(32, 8) == (4, 0, 0)


@pytest.mark.parametrize(
    "layout",
    [{"recompute": "light"}, {"offload_optimizer": 1.0}, {"pp": 31}, {"precision": "fp8"},
     {"ep": 2, "etp": 2}, {"pp": 8, "schedule": "dualpipe"}],
    ids=str,
)  # fmt: skip
def test_what_would_train_something_else_is_refused(make, layout):
    with pytest.raises(InputError):
        export("torchtitan", make("dense", layout), "{}")


def test_a_model_it_does_not_have_or_has_otherwise_is_refused(make):
    with pytest.raises(UnknownName, match=r"torchtitan 0\.3\.0"):
        export("torchtitan", make("one card"), "{}")
    with pytest.raises(InputError, match="another shape"):
        export("torchtitan", make("dense", hidden=8192), "{}")


def test_405b_in_16_bits_is_refused_where_torchtitan_computes_it_in_8(make):
    with pytest.raises(InputError, match="in fp8, the plan in bf16"):
        export("torchtitan", make("405b"), "{}")


PARSE = """\
import sys
from torchtitan.config.manager import ConfigManager
it = ConfigManager().parse_args(sys.argv[1:])
p, t = it.parallelism, it.training
print("PARSED", p.tensor_parallel_degree, p.pipeline_parallel_degree, p.data_parallel_shard_degree,
      t.global_batch_size, t.steps, t.mixed_precision_param,
      type(it.activation_checkpoint).__qualname__)
"""


@pytest.mark.drill
@pytest.mark.skipif(find_spec("torchtitan") is None, reason="torchtitan 0.3.0 is not installed")
@pytest.mark.parametrize("layout", PLANS)
def test_its_own_parser_takes_them(make, layout):
    launch = make("dense", {"recompute": "none"} | PLANS[layout])
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *flags(launch)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = re.search(r"^PARSED (.*)$", done.stdout, re.M)
    assert said is not None
    split = launch.layout
    kind = {"none": "NoneType", "full": "FullAC.Config"}[split.recompute]
    number = "float32" if split.precision == "fp32" else "bfloat16"
    assert said[1] == (
        f"{split.tp} {split.pp} {split.dp_shard} {launch.sequences} {launch.steps} {number} {kind}"
    )
