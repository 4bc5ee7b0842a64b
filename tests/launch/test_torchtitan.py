"""torchtitan's words exist in 0.3.0, its own parser takes them, and they say what the plan says."""

from __future__ import annotations

import json
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
from crore.launch.torchtitan import CONFIGS, SCHEDULES, flags, split_evenly

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


READ = """\
import importlib.machinery, json, sys, types

import torch._inductor.runtime.triton_compat  # torch has now seen that there is no triton


class Absent(types.ModuleType):
    # What torchtitan imports for kernels, data and logs, and does not ask when it reads flags.
    __version__ = "0"
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")

    def __call__(self, *given, **named):
        return given[0] if given and callable(given[0]) else self


for name in ("triton", "triton.language", "datasets", "datasets.distributed",
             "torch.utils.tensorboard"):
    sys.modules[name] = Absent(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)

from torchtitan.config.manager import ConfigManager

for words in json.load(sys.stdin):
    try:
        it = ConfigManager().parse_args(words)
    except (Exception, SystemExit) as error:
        print("READ", json.dumps({"refused": f"{type(error).__name__}: {error}"}))
        continue
    p, t = it.parallelism, it.training
    print("READ", json.dumps({
        "tp": p.tensor_parallel_degree, "pp": p.pipeline_parallel_degree,
        "cp": p.context_parallel_degree, "ep": p.expert_parallel_degree,
        "dp_shard": p.data_parallel_shard_degree, "dp_replicate": p.data_parallel_replicate_degree,
        "schedule": p.pipeline_parallel_schedule, "sequences": t.global_batch_size,
        "steps": t.steps, "seq_len": t.seq_len, "precision": t.mixed_precision_param,
        "recompute": type(it.activation_checkpoint).__qualname__,
    }))
"""
TORCHRUN = """\
#!/bin/sh
exec "$REAL_PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""
KINDS = {"none": "NoneType", "full": "FullAC.Config"}
SEEDED = {
    "a flag it has not": ("--parallelism.tensor_parallel_degre", "2"),
    "a number that is none": ("--training.steps", "many"),
    "a choice it has not": ("activation-checkpoint:half",),
    "a schedule without its value": ("--parallelism.pipeline_parallel_schedule",),
}


def written(launch, folder: Path) -> list[str]:
    """Return what the script gives to torchtitan, run with a torchrun that only says it."""
    script = export("torchtitan", launch, "{}").files[0].text
    (folder / "torchtitan.sh").write_text(script, encoding="utf-8")
    (folder / "torchrun").write_text(TORCHRUN, encoding="utf-8")
    (folder / "torchrun").chmod(0o755)
    done = subprocess.run(
        ["bash", "torchtitan.sh"], cwd=folder, capture_output=True, text=True, check=True,
        env={"PATH": f"{folder}:/usr/bin:/bin", "REAL_PYTHON": sys.executable,
             "RDZV_ENDPOINT": "host:29500"},
    )  # fmt: skip
    said: list[str] = json.loads(done.stdout)
    return said[said.index("torchtitan.train") + 1 :]


def read(lines: list[list[str]]) -> list[dict[str, Any]]:
    """Return what torchtitan's own parser makes of command lines."""
    done = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(lines), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(it) for it in re.findall(r"^READ (.*)$", done.stdout, re.M)]


@pytest.mark.skipif(
    find_spec("torchtitan") is None, reason="pip install --no-deps torchtitan==0.3.0"
)
def test_its_own_parser_reads_the_plans_from_the_scripts(make, tmp_path):
    launches = [make("dense", {"recompute": "none"} | layout) for layout in PLANS.values()]
    right = [written(launch, tmp_path) for launch in launches]
    wrong = [[*right[0], *words] for words in SEEDED.values()]
    models = [
        ["--module", it.module, "--config", it.function, "activation-checkpoint:none"]
        for configs in CONFIGS.values() for it in configs
        if it.precision == "bf16"  # those in 8 bits import torchao
    ]  # fmt: skip
    found = read([*right, *wrong, *models])
    for launch, it in zip(launches, found[: len(right)], strict=True):
        split = launch.layout
        asked = {"tp": split.tp, "pp": split.pp, "cp": split.cp, "ep": split.ep,
                 "dp_shard": split.dp_shard, "dp_replicate": split.dp_replicate,
                 "sequences": launch.sequences, "steps": launch.steps, "seq_len": launch.seq_len,
                 "precision": "float32" if split.precision == "fp32" else "bfloat16",
                 "recompute": KINDS[split.recompute]}  # fmt: skip
        if split.pp > 1:
            asked["schedule"] = SCHEDULES[split.schedule]
        assert {key: it.get(key) for key in asked} == asked
    assert found[len(right) :][: len(wrong)] == [{"refused": "SystemExit: 2"}] * len(SEEDED)
    assert [it for it in found[-len(models) :] if "refused" in it] == []
