"""What a rank sends, in order: one record per collective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Phase: TypeAlias = Literal["forward", "backward", "step", "round"]
Kind: TypeAlias = Literal[
    "all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "send", "recv"
]
P2P: Final = ("send", "recv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One collective as one of its ranks issues it."""

    axis: str
    """Of the mesh, as in a layout; `world` for all ranks, `tied` for the two ends of a pipeline,
    `worlds` and `islands` for the same rank of others."""
    collective: Kind
    group: str
    """Name of the process group, the same on all its ranks."""
    ranks: int
    """Ranks of the group."""
    bytes: int
    """The full buffer on one rank: what a gather makes, what a scatter is given."""
    phase: Phase
    micro_batch: int = -1
    """Within a step; -1 outside of micro-batches."""
    stage: int = -1
    """Pipeline stage whose pass it belongs to; -1 where it belongs to none."""
    peer: int = -1
    """The other rank of a send or a receive, in the world; -1 for others."""
    batch: int = -1
    """Sends and receives of one number are issued together and then waited for; -1 for others."""

    @property
    def sort(self) -> str:
        """Return the collective, a send and a receive alike `p2p`, as the planner counts them."""
        return "p2p" if self.collective in P2P else self.collective

    @property
    def words(self) -> str:
        """Return the operation as one reads it."""
        to = {"send": f" to rank {self.peer}", "recv": f" from rank {self.peer}"}
        where = f", micro-batch {self.micro_batch}" if self.micro_batch >= 0 else ""
        return (
            f"{self.collective}{to.get(self.collective, '')} of {self.bytes:,} B on {self.axis} "
            f"({self.phase}{where})"
        )
