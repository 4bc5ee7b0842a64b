"""A plan becomes the files that run it, by crore's own trainer or by another's.

Each target's files say for which version they were written and what of the plan they leave out;
a plan of which a target would train something else is refused.
"""

from collections.abc import Callable
from typing import Final

from crore.launch.export import Export, File
from crore.launch.kubernetes import IMAGE, kubernetes
from crore.launch.launch import Launch, Layout, launch_of
from crore.launch.megatron import megatron
from crore.launch.skypilot import skypilot
from crore.launch.slurm import slurm
from crore.launch.torchrun import torchrun
from crore.launch.torchtitan import torchtitan
from crore.launch.write import readme, write_launch

__all__ = [
    "IMAGE", "TARGETS", "Export", "File", "Launch", "Layout", "export", "launch_of", "readme",
    "write_launch",
]  # fmt: skip

_PLAIN: Final[dict[str, Callable[[Launch], Export]]] = {
    "torchrun": torchrun, "slurm": slurm, "skypilot": skypilot, "torchtitan": torchtitan,
    "megatron": megatron,
}  # fmt: skip
TARGETS: Final = ("torchrun", "slurm", "kubernetes", "torchtitan", "megatron", "skypilot")
"""What a plan can be launched to."""


def export(target: str, launch: Launch, plan: str, *, image: str = IMAGE) -> Export:
    """Return a launch in the words of a target of `TARGETS`; `plan` is the text of plan.json.

    Raises InputError for a plan of which the target would train something else.
    """
    if target == "kubernetes":
        return kubernetes(launch, plan, image)
    return _PLAIN[target](launch)
