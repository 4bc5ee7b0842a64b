"""Megatron-LM: a plan as arguments of its pretrain_gpt.py."""

from __future__ import annotations

import shlex
from typing import Final

from crore import __version__
from crore.errors import InputError
from crore.launch.export import Export, File
from crore.launch.launch import Launch, Layout
from crore.launch.megatron_model import model_arguments, refuse_model
from crore.launch.trainer import PORT

Arguments = list[str]
SCRIPT: Final = "megatron.sh"
RELEASE: Final = "core_v0.19.2"
WRITTEN_FOR: Final = f"Megatron-LM {RELEASE}"
_YOURS: Final = "--lr 3e-4 --data-path … --tokenizer-type … --save …"
_STRATEGIES: Final = {2: "optim_grads", 3: "optim_grads_params"}
_SCHEDULES: Final = ("1f1b", "interleaved")


def megatron(launch: Launch) -> Export:
    """Return the script and its arguments.

    Raises InputError for a plan of which Megatron-LM would train something else: another model,
    schedule, sharding or precision, or every world of a fleet by itself.
    """
    _refuse(launch)
    refuse_model(launch.spec)
    meet = "RDZV_ENDPOINT=HOST:29500 " if launch.nodes > 1 else ""
    return Export(
        target="megatron", written_for=WRITTEN_FOR,
        files=(File(name=SCRIPT, text=_script(launch), runs=True),), world_file=SCRIPT,
        run=(
            f"MEGATRON=/path/of/Megatron-LM {meet}./{SCRIPT} {_YOURS}    # on every node",
        ),
        needs=(f"Megatron-LM at its tag {RELEASE}: the flags are those of that release.",),
        leaves_out=_left_out(launch),
    )  # fmt: skip


def arguments(launch: Launch) -> tuple[tuple[str, ...], ...]:
    """Return the arguments, each a flag with its values."""
    layout = launch.layout
    lists = (model_arguments(launch), _split(launch), _memory(layout), _batch(launch))
    return tuple(tuple(words) for words in (w for part in lists for w in part))


def _refuse(launch: Launch) -> None:
    layout = launch.layout
    faults = (
        (launch.is_fleet, f"{launch.worlds:,} worlds as one model", "--limit gpus=10k"),
        (
            layout.pp > 1 and layout.schedule not in _SCHEDULES,
            f"the schedule {layout.schedule}", "--fix schedule=1f1b",
        ),
        (
            layout.zero > 1 and layout.dp_shard > 1 and layout.pp > 1,
            f"ZeRO {layout.zero} inside a pipeline",
            "--fix zero=1",
        ),
        (layout.offload_activations > 0, "that share of activations off the card",
         "--stack megatron-2025"),
        (layout.precision not in _PRECISIONS, f"precision {layout.precision}", "--precision bf16"),
    )  # fmt: skip
    for wrong, what, instead in faults:
        if wrong:
            raise InputError(f"Megatron-LM does not run {what}: plan it with {instead}")


def _left_out(launch: Launch) -> tuple[str, ...]:
    spec, layout = launch.spec, launch.layout
    lines = [
        "Learning rate, data, tokenizer, checkpoints: give them behind the script's name.",
        "Rotary base and scaling, norm epsilon, initial weights: Megatron's defaults.",
    ]
    if spec.experts:
        lines.append("How the router scores, balances and groups experts: Megatron's defaults.")
    if spec.mtp_layers:
        lines.append("Multi-token prediction: plans leave it out (--mtp-num-layers adds it).")
    if layout.recompute == "selective" and not launch.stack.startswith(("megatron", "nemo")):
        lines.append("Selective recompute is that of attention's core, not the plan's stack's.")
    if layout.precision == "fp8":
        lines.append("Which 8-bit recipe: Megatron's default, delayed scaling (--fp8-recipe).")
    if launch.spares:
        lines.append(f"{launch.spares:,} spare GPUs: nothing takes them by itself.")
    if not launch.stack.startswith(("megatron", "nemo")):
        lines.append(f"The plan's times are those of the stack {launch.stack}, not Megatron's.")
    return tuple(lines)


def _split(launch: Launch) -> list[Arguments]:
    layout = launch.layout
    words = [
        ["--tensor-model-parallel-size", str(layout.tp)],
        ["--pipeline-model-parallel-size", str(layout.pp)],
        ["--context-parallel-size", str(layout.cp)],
        *_stages(launch),
    ]
    if layout.sequence_parallel:
        words.append(["--sequence-parallel"])
    if layout.tp_overlap:
        words.append(["--tp-comm-overlap"])
    if launch.spec.experts:
        words += [
            ["--expert-model-parallel-size", str(layout.ep)],
            ["--expert-tensor-parallel-size", str(layout.etp)],
        ]
    return words + _sharding(layout)


def _sharding(layout: Layout) -> list[Arguments]:
    """Return how states are shared out: Megatron's distributed optimizer, or its FSDP above it."""
    if not layout.zero or layout.dp_shard == 1:
        return []
    words = [["--use-distributed-optimizer"], ["--overlap-grad-reduce"], ["--overlap-param-gather"]]
    if layout.dp_replicate > 1:
        words.append(["--num-distributed-optimizer-instances", str(layout.dp_replicate)])
    if layout.zero > 1:
        words += [
            ["--use-megatron-fsdp"],
            ["--data-parallel-sharding-strategy", _STRATEGIES[layout.zero]],
            ["--ckpt-format", "fsdp_dtensor"], ["--no-gradient-accumulation-fusion"],
        ]  # fmt: skip
    return words


def _stages(launch: Launch) -> list[Arguments]:
    """Return how layers are put on pipeline stages; spelt out where they do not divide evenly."""
    layout, layers = launch.layout, launch.spec.layers
    stages = layout.pp * layout.vpp
    if stages == 1:
        return []
    if layers % stages or layout.end_slots:
        spelt = stage_string(layers, stages, end_slots=layout.end_slots)
        return [["--pipeline-model-parallel-layout", spelt]]
    if layout.vpp > 1:
        return [["--num-virtual-stages-per-pipeline-rank", str(layout.vpp)]]
    return []


def stage_string(layers: int, stages: int, *, end_slots: bool) -> str:
    """Return Megatron's word for a split of layers: `Et|tt|tL`, a letter each.

    E is the embedding, L the loss. The stages with one layer fewer are at the ends, which have
    more to do; with `end_slots`, embedding and loss count as layers.
    """
    slots = layers + 2 * end_slots
    each, more = divmod(slots, stages)
    short = stages - more
    head, tail = -(-short // 2), short // 2
    counts = [each + (head <= n < stages - tail) for n in range(stages)]
    if end_slots:
        counts[0] -= 1
        counts[-1] -= 1
    parts = ["t" * count for count in counts]
    parts[0] = f"E{parts[0]}"
    parts[-1] = f"{parts[-1]}L"
    return "|".join(parts)


def _memory(layout: Layout) -> list[Arguments]:
    words: list[Arguments] = []
    if layout.recompute == "full":
        words.append(["--recompute-granularity", "full"])
        if layout.recompute_layers < layout.stage_layers:
            # Each chunk of a rank counts for itself; rounded up, so that memory suffices.
            each = -(-layout.recompute_layers // layout.vpp)
            words += [["--recompute-method", "block"], ["--recompute-num-layers", str(each)]]
        else:
            words += [["--recompute-method", "uniform"], ["--recompute-num-layers", "1"]]
    elif layout.recompute in ("selective", "light"):
        words.append(["--recompute-granularity", "selective"])
    if layout.offload_optimizer:
        share = f"{layout.offload_optimizer:g}"
        words += [
            ["--optimizer-cpu-offload"], ["--optimizer-offload-fraction", share],
            ["--use-precision-aware-optimizer"],
        ]  # fmt: skip
    return words


_PRECISIONS: Final = {
    "fp32": [], "fp16": [["--fp16"]], "bf16": [["--bf16"]],
    "fp8": [["--bf16"], ["--fp8-format", "hybrid"]],
    "fp4": [["--bf16"], ["--fp4-format", "e2m1"]],
}  # fmt: skip


def _batch(launch: Launch) -> list[Arguments]:
    return [
        *_PRECISIONS[launch.layout.precision],
        ["--micro-batch-size", str(launch.layout.micro_batch)],
        ["--global-batch-size", str(launch.sequences)],
        ["--seq-length", str(launch.seq_len)],
        ["--train-iters", str(launch.steps)],
        ["--exit-signal-handler"],
    ]


def _script(launch: Launch) -> str:
    lines = "".join(f"    {shlex.join(words)}\n" for words in arguments(launch))
    endpoint = "${RDZV_ENDPOINT:-127.0.0.1:0}"
    if launch.nodes > 1:
        endpoint = f"${{RDZV_ENDPOINT:?HOST:{PORT}, HOST the first node}}"
    return f"""\
#!/usr/bin/env bash
# Written by crore {__version__} for {WRITTEN_FOR}:
# {launch.spec.name} on {launch.layout.ranks} GPUs. What follows the script's name goes to Megatron.
set -euo pipefail
megatron=${{MEGATRON:?the folder of Megatron-LM}}
endpoint={endpoint}
{_connections(launch.layout)}arguments=(
{lines})
exec torchrun --nnodes {launch.nodes} --nproc-per-node {launch.node_gpus} \\
    --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id {launch.name} \\
    "$megatron/pretrain_gpt.py" "${{arguments[@]}}" "$@"
"""


def _connections(layout: Layout) -> str:
    """Return the line that orders kernels as Megatron's overlaps want; its FSDP refuses it."""
    if layout.zero > 1 and layout.dp_shard > 1:
        return "unset CUDA_DEVICE_MAX_CONNECTIONS\n"
    return "export CUDA_DEVICE_MAX_CONNECTIONS=${CUDA_DEVICE_MAX_CONNECTIONS:-1}\n"
