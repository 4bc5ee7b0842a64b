"""Who a `crore train` is among the worlds of its plan's fleet: one of them, or who starts them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crore.errors import InputError

if TYPE_CHECKING:
    from crore.plan.request import LostWorlds
    from crore.train.data import Dataset
    from crore.train.fault.supervisor import Fleet
    from crore.train.job import Job
    from crore.train.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Among:
    """What the flags say of other worlds."""

    world: int | None
    """Of the plan's fleet; None where this command runs all of them, or a plan of one world."""
    lighthouse: str
    fleet: str
    spares: int
    lost: str
    """What a step does without worlds that died; as the mission says where it is empty."""
    grace_s: float
    """An outer step waits so long for islands that are late."""
    chaos: str
    port: int
    """Of the rendezvous of a world's ranks."""

    def folder(self, out: Path) -> Path:
        """Return the folder that this command holds: the run's, or its world's in it."""
        from crore.train.fault.seat import folder_of

        return out if self.world is None else out / folder_of(self.world)

    def seated(self, job: "Job", plan: Mapping[str, Any]) -> "Job":
        """Return the job with its place in the fleet, where it is one world of one."""
        from crore.train.fault.member import seated
        from crore.train.fault.seat import seat_of

        lost = self._lost(plan)
        if self.world is None:
            return job
        if self.chaos:
            raise InputError(
                "--chaos is done by the command that starts the worlds, not by --world"
            )
        seat = seat_of(
            self.world, worlds=int(plan["worlds"]), islands=int(plan["islands"]),
            lighthouse=self.lighthouse, fleet=self.fleet, lost=lost,
        )  # fmt: skip
        return seated(job, seat)

    def check(self, job: "Job", plan: Mapping[str, Any]) -> None:
        """Raise InputError for more ranks than there are, and for flags that ask for a fleet."""
        import os

        from crore.train.start import check_room, check_start
        from crore.train.world import membership

        if not self._starts(plan):
            if (self.chaos or self.spares) and self.world is None:
                raise InputError(
                    "--chaos and --spares need a plan of several worlds: plan it with "
                    "--limit world_gpus=N, N the ranks of a world"
                )
            check_start(job, self.port)
        elif membership(os.environ) is not None:
            raise InputError(
                f"the plan is of {int(plan['worlds']):,} worlds: say which one this is with "
                "--world W (crore launch writes files that do)"
            )
        else:
            self._fleet(plan)
            check_room(job, worlds=int(plan["worlds"]) + self.spares)

    def done(self, job: "Job", plan: Mapping[str, Any], data: "Dataset") -> int:
        """Return the steps done by the run in the folder, of its last island; see `steps_done`."""
        from dataclasses import replace

        from crore.train.fault.seat import Seat, folder_of
        from crore.train.resume import steps_done

        if not self._starts(plan):
            return steps_done(job, data)
        islands = int(plan["islands"])
        each = int(plan["worlds"]) // islands
        seats = (
            Seat(world=i * each, worlds=each, island=i, islands=islands) for i in range(islands)
        )
        return min(
            steps_done(replace(job, folder=job.folder / folder_of(seat.world), seat=seat), data)
            for seat in seats
        )

    def start(self, job: "Job", plan: Mapping[str, Any]) -> "Outcome":
        """Run what this command is asked to run."""
        if self._starts(plan):
            from crore.train.fault.supervisor import run_fleet

            return run_fleet(job, self._fleet(plan))
        from crore.train.start import RESTARTS, start

        return start(job, port=self.port, restarts=RESTARTS if self.world is None else 0)

    def _lost(self, plan: Mapping[str, Any]) -> "LostWorlds":
        from crore.train.fault.seat import rule_of

        return rule_of(self.lost or plan["request"]["lost_worlds"])

    def _starts(self, plan: Mapping[str, Any]) -> bool:
        return self.world is None and int(plan["worlds"]) > 1

    def _fleet(self, plan: Mapping[str, Any]) -> "Fleet":
        from crore.train.fault.chaos import parse_chaos
        from crore.train.fault.supervisor import Fleet

        return Fleet(
            worlds=int(plan["worlds"]), islands=int(plan["islands"]), spares=self.spares,
            lost=self._lost(plan),
            grace_s=self.grace_s, chaos=parse_chaos(self.chaos),
        )  # fmt: skip
