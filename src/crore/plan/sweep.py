"""One request at many GPU counts, from one GPU to ten million: what fits where, and what it takes.

Counts share what is known of the grid (`Points`), so a sweep costs less than its searches alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crore.catalog import Catalog, load_catalog
from crore.errors import CroreError, InputError
from crore.plan.answer import Plan
from crore.plan.infeasible import shortfall
from crore.plan.plan import describe
from crore.plan.pricing import Points
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve
from crore.plan.search import Found, Ground, Watch, search, usable_bytes

PER_DECADE: Final = 10
DECADES: Final = 7
MOST_GPUS: Final = 10**DECADES
DIVIDED_WELL: Final = tuple(2**a * 3**b for a in range(25) for b in range(3))
"""Counts that tensor, pipeline and data degrees divide well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtCount:
    """What one GPU count comes to: a plan, or why there is none."""

    gpus: int
    plan: Plan | None
    reason: str = ""
    """One line where there is no plan."""
    needed_bytes: float | None = None
    """Per GPU, of the nearest miss; None with a plan, or where a rule is in the way."""
    usable_bytes: float = 0.0
    """Up to which a plan counts as fitting; 0 where the question has no sense at this count."""
    capacity_bytes: float = 0.0
    """Of one GPU; 0 there as well."""


def grid_counts(own: int) -> tuple[int, ...]:
    """Return 71 GPU counts, ten per decade from 1 to 10,000,000, near powers of 10^0.1.

    Each is the nearest 2^a·3^b with b of 2 at most, as layouts divide such counts; the mission's
    `own` count stands where it is nearest, and the last is ten million exactly. Small ones repeat.
    """
    targets = [10 ** (k / PER_DECADE) for k in range(PER_DECADE * DECADES + 1)]
    counts = [min(DIVIDED_WELL, key=lambda n: max(n / t, t / n)) for t in targets]
    counts[-1] = MOST_GPUS
    if 1 <= own <= MOST_GPUS:
        place = min(range(len(targets)), key=lambda k: max(own / targets[k], targets[k] / own))
        counts[place] = own
    return tuple(sorted(counts))


def one_machine(request: PlanRequest, catalog: Catalog) -> bool:
    """Return whether a request is of this machine, which has processes, not a choice of counts."""
    return catalog.accelerator(_gpu(request, catalog)).cpu


def _gpu(request: PlanRequest, catalog: Catalog) -> str:
    """Return the GPU a request names, itself or by its cluster."""
    return request.gpu or (catalog.cluster(request.cluster).accelerator if request.cluster else "")


def bare(request: PlanRequest, catalog: Catalog) -> PlanRequest:
    """Return a request that names its GPU and count itself, so that the count can change.

    A cluster's network and sites reach so many GPUs and no more: both are chosen anew. Raises
    InputError for this machine, which has processes and not a choice of counts.
    """
    catalog.model(request.model)
    cluster = catalog.cluster(request.cluster) if request.cluster else None
    gpu = _gpu(request, catalog)
    if one_machine(request, catalog):
        raise InputError(f"{gpu} is one machine and cannot be swept over GPU counts: name a GPU")
    own = request.gpus or (cluster.gpus if cluster else 0) or (request.limits.gpus or 0)
    limits = replace(request.limits, gpus=None, power_w=None, days=None)
    return replace(
        request, gpu=gpu, gpus=own, cluster="", fabric="", sites=0, objective="fastest", top=1,
        limits=limits,
    )  # fmt: skip


def sweep(
    request: PlanRequest, counts: Sequence[int], watch: Watch | None = None,
    catalog: Catalog | None = None,
) -> Iterator[AtCount]:  # fmt: skip
    """Yield what each GPU count comes to, in order; a count given twice comes twice.

    `request` is a `bare` one; `catalog` is the request's, where it is read already. Where no
    layout exists at a count, the reason stands in its place.
    """
    catalog = catalog or load_catalog(request.catalog_file)
    points = Points()
    last: AtCount | None = None
    for gpus in counts:
        if last is None or last.gpus != gpus:
            last = _at(replace(request, gpus=gpus), catalog, points, watch)
        yield last


def _at(request: PlanRequest, catalog: Catalog, points: Points, watch: Watch | None) -> AtCount:
    gpus = request.gpus
    try:
        q = resolve(request, catalog)
        found: Found = search(q, watch, ground=Ground(q, points))
    except CroreError as error:
        return AtCount(gpus=gpus, plan=None, reason=str(error))
    if found.interrupted:  # half a search is no answer, and the user wants to leave
        raise KeyboardInterrupt
    if found.ranked:
        plan = describe(q, found.ranked[0])
        return AtCount(
            gpus=gpus, plan=plan, usable_bytes=usable_bytes(q), capacity_bytes=q.memory_bytes
        )
    reason, needed = shortfall(q, found, points)
    return AtCount(
        gpus=gpus, plan=None, reason=reason, needed_bytes=needed, usable_bytes=usable_bytes(q),
        capacity_bytes=q.memory_bytes,
    )  # fmt: skip
