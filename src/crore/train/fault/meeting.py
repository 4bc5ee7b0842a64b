"""Meeting others at a lighthouse: who is there, taking up what one is behind, and a common vote."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist
from torch import Tensor
from torch.distributed import AllreduceOptions, ReduceOp

from crore.train.fault.torchft import (
    forget_quorum,
    group_of,
    manager,
    own_host,
    own_store,
    quorum_of,
)
from crore.train.peers import Left, State

HEAL_S: Final = 60.0
"""Taking up the state of another, and a vote, may take so long."""
AGAIN_S: Final = 0.2
"""Between two tries to reach a lighthouse."""


class Meeting:
    """One rank's part in meetings under a name; rank k of a world meets rank k of the others.

    `quorum_s` is the wait for others at one try. While there is no lighthouse it asks again, until
    `asked` says to leave. `tell` hears what is out of the ordinary.
    """

    def __init__(
        self, name: str, lighthouse: str, *, quorum_s: float,
        tell: Callable[[str], None], asked: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._tell, self._asked = tell, asked
        here = dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if here else (0, 1)
        place = [("", 0)]
        if rank == 0:
            self._store, place[0] = own_store(own_host(lighthouse))
        if here:
            dist.broadcast_object_list(place, src=0)
        self._manager = manager(
            name, lighthouse, rank=rank, ranks=ranks, store=place[0], patience_s=HEAL_S,
            quorum_s=quorum_s,
        )  # fmt: skip
        self._met = (-1, 0, 1)
        self.changed = True
        """Whether other members came together than at the last meeting."""

    def attach(self, state: Callable[[], State], load: Callable[[State], None]) -> None:
        """Name the functions that give this rank's state to one that is behind, and take one up."""
        self._manager.register_state_dict_fn("crore", load, state)

    def begin(self, done: int) -> None:
        """Meet; one that has done less than another takes up its state. Raises Left when asked."""
        told = False
        while True:
            self._manager.load_state_dict({"step": done, "batches_committed": 0})
            try:
                self._manager.start_quorum()
                break
            except Exception as error:  # torchft raises what its server says, in several types
                forget_quorum(self._manager)
                if self._asked():
                    raise Left from error
                if not told:
                    self._tell(f"no quorum ({str(error).splitlines()[0][:80]}): asking again")
                told = True
                time.sleep(AGAIN_S)
        met = quorum_of(self._manager)
        self.changed, self._met = met != self._met, met

    @property
    def met(self) -> bool:
        """Whether there was a meeting yet."""
        return self._met[0] >= 0

    @property
    def number(self) -> int:
        """The meeting's number at the lighthouse: another one whenever others come together."""
        return self._met[0]

    @property
    def place(self) -> int:
        """This member's place among those that are there."""
        return self._met[1]

    @property
    def size(self) -> int:
        """Members that are there."""
        return self._met[2]

    @property
    def group(self) -> Any:
        """The process group of this meeting."""
        return group_of(self._manager)

    @property
    def failed(self) -> bool:
        """Whether this meeting will not hold."""
        return self._manager.errored() is not None

    def fail(self, error: Exception) -> None:
        """Say that this meeting must not hold."""
        self._manager.report_error(error)

    def add(self, tensor: Tensor, wait_s: float) -> None:
        """Add up a tensor over the members, in place; a peer silent for `wait_s` makes it fail."""
        if self.size == 1 or self.failed:
            return
        options = AllreduceOptions()
        options.reduceOp = ReduceOp(ReduceOp.SUM)
        options.timeout = timedelta(seconds=wait_s)
        try:
            own = tensor if tensor.device.type == "cpu" else tensor.cpu()
            self.group.allreduce([own], options).wait()
            if own is not tensor:
                tensor.copy_(own)
        except Exception as error:  # a peer is gone, or silent
            self.fail(error)

    def commit(self) -> bool:
        """Return whether the meeting holds, the same on all ranks of this world."""
        try:
            return bool(self._manager.should_commit())
        except Exception as error:  # the world's own server did not answer in time
            self._tell(f"no vote ({str(error).splitlines()[0][:80]})")
            return False

    def close(self) -> None:
        """Leave: the others hear of it, at the latest, when no heartbeat comes."""
        self._manager.shutdown(wait=False)
