"""What the targets that run `crore train` share: what it can run, its command, a node's check."""

from __future__ import annotations

from typing import Final

from crore.cost.stack import abilities_of
from crore.errors import InputError
from crore.launch.export import File
from crore.launch.launch import Launch

PLAN: Final = "plan.json"
HEALTH: Final = "health.sh"
RESTARTS: Final = 3
"""How often a world starts again from its checkpoint within one job."""
PORT: Final = 29500
"""Where the ranks of a world meet."""
STACK: Final = "crore"
_PRECISIONS: Final = ("fp32", "bf16", "fp8")
_OTHER_DEVICES: Final = ("tpu", "gaudi")
"""Beginnings of names of accelerators that torch does not call `cuda`."""


def check_trainer(launch: Launch) -> None:
    """Raise InputError for a plan that `crore train` refuses or would train differently."""
    layout, can = launch.layout, abilities_of(STACK)
    stage = layout.zero if layout.dp_shard > 1 else can.zero[0]
    faults = (
        (layout.pp > 1 and layout.schedule not in can.schedules, f"schedule {layout.schedule}"),
        (stage not in can.zero, f"ZeRO {stage}"),
        (layout.ep > 1 and layout.etp > 1, f"experts split over etp {layout.etp}"),
        (layout.offload_optimizer > 0, "optimizer states in host memory"),
        (layout.offload_activations > 0, "activations in host memory"),
        (layout.precision not in _PRECISIONS, f"precision {layout.precision}"),
        (
            launch.accelerator.name.startswith(_OTHER_DEVICES),
            f"an accelerator {launch.accelerator.name}, only CUDA's and processors",
        ),
    )
    for wrong, what in faults:
        if wrong:
            raise InputError(
                f"crore train does not run {what}: plan it with --stack crore, or launch --to "
                "megatron or torchtitan"
            )


def left_out(launch: Launch) -> tuple[str, ...]:
    """Return what `crore train` leaves out of a plan, one line each."""
    lines = []
    if launch.spares:
        lines.append(f"{launch.spares:,} spare GPUs: {_spares(launch)}")
    if launch.stack != STACK:
        lines.append(
            f"The plan's times are those of the stack {launch.stack}; crore's own trainer runs "
            "the same layout at its own speed."
        )
    idle = launch.node_size - launch.node_gpus
    if idle and launch.nodes > 1:
        lines.append(f"{idle} of the {launch.node_size} GPUs of every node stay idle.")
    lines.append("Learning rate, data and tokenizer are crore train's own unless flags say else.")
    return tuple(lines)


def _spares(launch: Launch) -> str:
    """Return what becomes of GPUs that no planned world has."""
    worlds = launch.spares // launch.layout.ranks
    if not worlds or launch.worlds == launch.islands:  # a world alone in its island meets nobody
        return "no world takes them by itself."
    last = launch.worlds + worlds - 1
    return f"start them as worlds {launch.worlds:,} to {last:,}, which wait as hot spares."


def package(launch: Launch) -> str:
    """Return crore with what this plan needs of it, as pip calls it."""
    return "crore[train,ft]" if launch.is_fleet else "crore[train]"


def needs(launch: Launch) -> tuple[str, ...]:
    """Return what `crore train` needs on every node, one line each."""
    python = "in the Python that runs (PYTHON names another)."
    lines = [f"{package(launch)} and torch 2.13 {python}"]
    if launch.nodes > 1 or launch.is_fleet:
        whose = " of an island" if launch.islands > 1 else ""
        lines.append(
            f"This folder, the run's folder and its --cache on storage that all nodes{whose} share."
        )
    return (*lines, *own_catalog(launch))


def own_catalog(launch: Launch) -> tuple[str, ...]:
    """Return the line on the user's own catalogue; none without one."""
    if not launch.catalog_file:
        return ()
    return (f"Your catalogue {launch.catalog_file}, at this path on every node.",)


def train_words(launch: Launch, plan: str = PLAN) -> tuple[str, ...]:
    """Return the command behind `python -m` or a launcher's `-m`, without the run's folder.

    The device is named, so that a node without its cards does not train on its processor.
    """
    device = "cpu" if launch.accelerator.cpu else "cuda"
    return ("crore", "train", plan, "--device", device)


def health(launch: Launch) -> File:
    """Return the check of one node: its cards are there and sound, and the trainer imports."""
    cards = 0 if launch.accelerator.cpu else launch.node_gpus
    modules = "crore, torch, torchft" if launch.is_fleet else "crore, torch"
    text = _HEALTH.replace("@CARDS@", str(cards)).replace("@MODULES@", modules)
    return File(name=HEALTH, text=text, runs=True)


_HEALTH: Final = """\
#!/usr/bin/env bash
# Is this node fit for the plan? Ends with 0, or with one line and 1.
set -u
fail() { echo "health: $(hostname): $1" >&2; exit 1; }
cards=@CARDS@
python=${PYTHON:-python3}

"$python" -c 'import @MODULES@' || fail "not all of @MODULES@ import in $python"
[ "$cards" = 0 ] && exit 0

seen=$("$python" -c 'import torch; print(torch.cuda.device_count())')
[ "${seen:-0}" -ge "$cards" ] || fail "torch sees ${seen:-0} of $cards GPUs"
if command -v nvidia-smi >/dev/null; then
    wrong=$(nvidia-smi --query-gpu=ecc.errors.uncorrected.volatile.total \\
        --format=csv,noheader | grep -c '^[1-9]')
    [ "$wrong" = 0 ] || fail "$wrong GPUs have memory errors that were not corrected"
fi
"""
