"""torchtitan: a plan as flags over one of its own model configurations."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Final

from crore import __version__
from crore.errors import InputError, UnknownName
from crore.launch.export import Export, File
from crore.launch.launch import Launch
from crore.launch.trainer import PORT

SCRIPT: Final = "torchtitan.sh"
WRITTEN_FOR: Final = "torchtitan 0.3.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A function of torchtitan's config_registry, and the shape that it builds."""

    module: str
    function: str
    layers: int
    hidden: int
    vocab: int
    precision: str = "bf16"
    """What it computes in: converters to 8 bits are part of the function."""


def _llama(function: str, layers: int, hidden: int) -> Config:
    return Config(module="llama3", function=function, layers=layers, hidden=hidden, vocab=128256)


def _qwen(function: str, layers: int, hidden: int) -> Config:
    return Config(module="qwen3", function=function, layers=layers, hidden=hidden, vocab=151936)


_V3: Final = Config(
    module="deepseek_v3", function="deepseek_v3_671b", layers=61, hidden=7168, vocab=129280
)
CONFIGS: Final = {
    "llama3-8b": (_llama("llama3_8b", 32, 4096),),
    "llama3-70b": (_llama("llama3_70b", 80, 8192),),
    "llama3.1-405b": (replace(_llama("llama3_405b", 126, 16384), precision="fp8"),),
    "deepseek-v2-lite": (
        replace(_V3, function="deepseek_v3_16b", layers=27, hidden=2048, vocab=102400),
    ),
    "deepseek-v3": (_V3, replace(_V3, function="deepseek_v3_671b_float8", precision="fp8")),
    "qwen3-0.6b": (_qwen("qwen3_0_6b", 28, 1024),),
    "qwen3-1.7b": (_qwen("qwen3_1_7b", 28, 2048),),
    "qwen3-14b": (_qwen("qwen3_14b", 40, 5120),),
    "qwen3-32b": (_qwen("qwen3_32b", 64, 5120),),
    "qwen3-30b-a3b": (_qwen("qwen3_30b_a3b", 48, 2048),),
}
"""Model of the catalogue -> configurations (torchtitan/models/*/config_registry.py of 0.3.0)."""
SCHEDULES: Final = {
    "gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble",
    "dualpipe-v": "DualPipeV",
}  # fmt: skip
_TWO_CHUNKS: Final = ("zb-v", "dualpipe-v")
_RECOMPUTE: Final = ("none", "selective", "full")


def torchtitan(launch: Launch) -> Export:
    """Return the script with its flags.

    Raises InputError for a plan of which torchtitan would train something else, UnknownName for a
    model that it has no configuration of.
    """
    config = _config(launch)
    _refuse(launch)
    meet = "RDZV_ENDPOINT=HOST:29500 " if launch.nodes > 1 else ""
    return Export(
        target="torchtitan", written_for=WRITTEN_FOR,
        files=(File(name=SCRIPT, text=_script(launch, config), runs=True),), world_file=SCRIPT,
        run=(f"{meet}./{SCRIPT} --hf_assets_path … --dump_folder …    # on every node",),
        needs=("torchtitan 0.3.0 and the nightly torch that it asks for; torchao for 8 bits.",),
        leaves_out=_left_out(launch, config),
    )  # fmt: skip


def flags(launch: Launch) -> tuple[str, ...]:
    """Return torchtitan's words: options first, the choice of recompute last, as tyro wants."""
    layout, config = launch.layout, _config(launch)
    values: dict[str, str | int] = {
        "parallelism.data_parallel_replicate_degree": layout.dp_replicate,
        "parallelism.data_parallel_shard_degree": layout.dp_shard,
        "parallelism.tensor_parallel_degree": layout.tp,
        "parallelism.pipeline_parallel_degree": layout.pp,
        "parallelism.context_parallel_degree": layout.cp,
        "parallelism.expert_parallel_degree": layout.ep,
        "training.seq_len": launch.seq_len,
        "training.global_batch_size": launch.sequences,
        "training.local_batch_size": layout.micro_batch,
        "training.steps": launch.steps,
    }
    if layout.dp_shard > 1:
        keep = "always" if layout.zero > 2 else "never"
        values["parallelism.fsdp_reshard_after_forward"] = keep
    if layout.precision == "fp32":
        values["training.mixed_precision_param"] = "float32"
    if layout.pp > 1:
        values |= _pipeline(launch)
    words = ["--module", config.module, "--config", config.function]
    words += [word for key, value in values.items() for word in (f"--{key}", str(value))]
    if layout.tp > 1 and not layout.sequence_parallel:
        words.append("--parallelism.no-enable-sequence-parallel")
    if layout.pp > 1 or layout.ep > 1:  # which 0.3.0 captures in no CUDA graph
        words.append("--training.disable_cuda_graphs")
    return (*words, f"activation-checkpoint:{layout.recompute}")


def _config(launch: Launch) -> Config:
    spec, precision = launch.spec, launch.layout.precision
    if spec.name not in CONFIGS:
        raise UnknownName("model of torchtitan 0.3.0", spec.name, CONFIGS)
    found = CONFIGS[spec.name]
    if (spec.layers, spec.hidden, spec.vocab) != (found[0].layers, found[0].hidden, found[0].vocab):
        raise InputError(
            f"your {spec.name} has another shape than torchtitan's {found[0].function}: it would "
            "train something else; launch --to torchrun"
        )
    computes = "bf16" if precision == "fp32" else precision
    for config in found:
        if config.precision == computes:
            return config
    raise InputError(
        f"torchtitan 0.3.0 computes {spec.name} in {found[0].precision}, the plan in {precision}: "
        f"plan it with --precision {found[0].precision}"
    )


def _refuse(launch: Launch) -> None:
    layout = launch.layout
    staged = layout.pp == 1 or split_evenly(launch.spec.layers, _stages(launch)) is not None
    faults = (
        (launch.is_fleet, f"{launch.worlds:,} worlds as one model", "--limit gpus=10k"),
        (
            layout.pp > 1 and layout.schedule not in SCHEDULES,
            f"the schedule {layout.schedule}", "--stack torchtitan",
        ),
        (layout.ep > 1 and layout.etp > 1, "experts split over etp", "--fix etp=1"),
        (layout.recompute not in _RECOMPUTE, f"recompute {layout.recompute}",
         "--stack torchtitan"),
        (layout.offload_optimizer > 0 or layout.offload_activations > 0,
         "states or activations in host memory as planned", "--stack torchtitan"),
        (not staged, f"{launch.spec.layers} layers on {_stages(launch)} stages", "--fix pp=…"),
    )  # fmt: skip
    for wrong, what, instead in faults:
        if wrong:
            raise InputError(f"torchtitan 0.3.0 does not run {what}: plan it with {instead}")


def _stages(launch: Launch) -> int:
    """Return stages of the pipeline: chunks of all ranks."""
    layout = launch.layout
    return layout.pp * (2 if layout.schedule in _TWO_CHUNKS else layout.vpp)


def split_evenly(layers: int, stages: int) -> tuple[int, int, int] | None:
    """Return (layers per stage, fewer on the first, fewer on the last) that give those stages.

    torchtitan makes ceil((layers + fewer) / layers per stage) of them, and lets no end be fewer
    by more than a stage has (distributed/pipeline_parallel.py of 0.3.0). None where none do.
    """
    for first, last in ((0, 0), (0, 1), (1, 1)):
        slots = layers + first + last
        each = -(-slots // stages)
        if -(-slots // each) == stages and slots // stages >= max(first, last, 1):
            return each, first, last
    return None


def _pipeline(launch: Launch) -> dict[str, str | int]:
    """Return the pipeline's flags; a replica's share of the batch is cut into micro-batches."""
    layout, even = launch.layout, split_evenly(launch.spec.layers, _stages(launch))
    assert even is not None  # refused before
    each, first, last = even
    return {
        "parallelism.pipeline_parallel_schedule": SCHEDULES[layout.schedule],
        "parallelism.pipeline_parallel_microbatch_size": layout.micro_batch,
        "parallelism.pipeline_parallel_layers_per_stage": each,
        "parallelism.pipeline_parallel_first_stage_less_layers": first,
        "parallelism.pipeline_parallel_last_stage_less_layers": last,
        "training.local_batch_size": launch.sequences // layout.dp,
    }


def _left_out(launch: Launch, config: Config) -> tuple[str, ...]:
    layout = launch.layout
    lines = [
        f"Learning rate, data, tokenizer, compilation: those of {config.function}.",
        "Batches are grouped as planned; how a rank overlaps messages is torchtitan's.",
    ]
    if layout.zero < 2 and layout.dp_shard > 1:
        lines.append(f"ZeRO {layout.zero}: torchtitan's FSDP shards gradients and weights too.")
    if layout.recompute == "full" and layout.recompute_layers < layout.stage_layers:
        lines.append(
            f"Recompute of {layout.recompute_layers} of {layout.stage_layers} layers of a rank: "
            "torchtitan recomputes all, slower and in less memory."
        )
    if layout.recompute == "selective" and launch.stack != "torchtitan":
        lines.append(
            "Selective recompute keeps what torchtitan lists, not what the plan's stack does."
        )
    if launch.spares:
        lines.append(f"{launch.spares:,} spare GPUs: nothing takes them by itself.")
    if launch.stack != "torchtitan":
        lines.append(f"The plan's times are those of the stack {launch.stack}, not torchtitan's.")
    return tuple(lines)


def _script(launch: Launch, config: Config) -> str:
    *words, recompute = flags(launch)
    pairs = []
    for word in words:
        if word.startswith("--"):
            pairs.append(word)
        else:
            pairs[-1] += f" {shlex.quote(word)}"
    lines = "".join(f"    {pair}\n" for pair in pairs)
    endpoint = "${RDZV_ENDPOINT:-127.0.0.1:0}"
    if launch.nodes > 1:
        endpoint = f"${{RDZV_ENDPOINT:?HOST:{PORT}, HOST the first node}}"
    return f"""\
#!/usr/bin/env bash
# Written by crore {__version__} for {WRITTEN_FOR}:
# {launch.spec.name} on {launch.layout.ranks} GPUs, over its
# {config.function}. What follows the script's name goes to torchtitan.
set -euo pipefail
endpoint={endpoint}
flags=(
{lines})
exec torchrun --nnodes {launch.nodes} --nproc-per-node {launch.node_gpus} \\
    --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id {launch.name} \\
    -m torchtitan.train "${{flags[@]}}" "$@" {recompute}
"""
