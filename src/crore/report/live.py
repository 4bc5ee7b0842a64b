"""Answers off the grid: a scenario is one more point of a page, two are what sets them apart.

Names are those of the catalogue, never paths: what a page asks reads no file of this machine.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from crore.catalog import Catalog, load_catalog
from crore.errors import Infeasible, InputError, UnknownName, shown
from crore.io import Record
from crore.plan.answer import Answer, Plan
from crore.plan.comparison import LETTERS, Comparison, compare
from crore.plan.infeasible import nearest_miss, smallest_change
from crore.plan.record import request_record
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve
from crore.plan.saved import request_from
from crore.plan.search import Found
from crore.plan.sweep import DIVIDED_WELL, MOST_GPUS, sweep
from crore.plan.text.comparison import causes_of, rows, verdicts
from crore.report import scenario as scenarios
from crore.report.marks import table
from crore.report.points import point
from crore.report.sheet import axes_of, whole_plan
from crore.report.sweeping import entries, entry_of

BUDGET_S: Final = 10.0
"""CPU seconds after which a search is given up."""
KEPT: Final = 512
"""Answers kept: some 8 kB each."""
SMOOTH: Final = (2, 3, 5)
"""A count with larger prime factors divides badly: the next that divides well is tried too."""
COMPARED: Final = 2


class _OverBudget(Exception):
    """A search that took too long; no CroreError, which a sweep would take for an answer."""


@dataclass(kw_only=True, slots=True)
class Live:
    """A planner behind a page; its methods may be called from several threads."""

    swept: Record
    """The sweep that the page shows (`sweeping.sweep_record`)."""
    base: PlanRequest
    """Its request: limits and the catalogue's file stay as they are in it."""
    catalog: Catalog
    points: Sequence[Record]
    """Of the page, whose axes a new point is held against."""
    _names: Mapping[str, frozenset[str]]
    _axes: Record
    _kept: OrderedDict[str, Record] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def reply(self, asked: Mapping[str, Any]) -> Record:
        """Return what a page is told: a scenario's `answer`, or `{compare: [...]}` of two."""
        if "compare" not in asked:
            return self.answer(asked)
        if len(asked) > 1:
            raise InputError('compare stands alone: {"compare": [address, address]}')
        return self.compare(asked["compare"])

    def stop(self) -> None:
        """End the searches under way: nobody waits for them."""
        self._stopped.set()

    def answer(self, scenario: Mapping[str, Any]) -> Record:
        """Return the point of a scenario (`report.scenario`).

        With `scenario`, as it was understood, and `axes` where they differ from the page's. What
        does not fit, or divides into nothing, is a point as well. Raises InputError for a value
        out of range, UnknownName for a name that the catalogue does not hold.
        """
        request = self._request(scenario)
        entry = self._entry(request)
        made = point(entry, self.catalog, self._first(request))
        if "hint" in entry:
            made["change"] = [entry["hint"], *made["change"]]
        axes = axes_of([*self.points, made])
        changed = {key: axis for key, axis in axes.items() if axis != self._axes[key]}
        said = scenarios.scenario_of(request)
        return {**made, "news": [], "scenario": said, **({"axes": changed} if changed else {})}

    def compare(self, addresses: object) -> Record:
        """Return what sets two scenarios apart, given as tails of addresses: `table, causes`.

        In the words of `crore compare`. Raises InputError for anything but two of them, Infeasible
        for one without a plan.
        """
        if not isinstance(addresses, list) or len(addresses) != COMPARED:
            raise InputError(f"compare takes {COMPARED} addresses, not {shown(addresses)}")
        if not all(isinstance(address, str) for address in addresses):
            raise InputError(f"compare takes addresses as text, not {shown(addresses)}")
        requests = [self._request(scenarios.read(address)) for address in addresses]
        plans = [self._plan(*each) for each in zip(LETTERS, requests, strict=False)]
        made = compare([_answered(plan) for plan in plans], [_called(it) for it in requests])
        return _comparison(made)

    def _request(self, filled: Mapping[str, Any]) -> PlanRequest:
        scenario = {key: value for key, value in filled.items() if value != ""}
        for key in ("model", "gpu"):
            self._check_name(key, scenario.get(key))
        if "gpus" not in scenario:
            raise InputError(f"a scenario names its gpus, for example gpus {EXAMPLES['gpus']}")
        request = scenarios.request_from(scenario, self.base)
        if request.gpus > MOST_GPUS:
            raise InputError(
                f"gpus is at most {MOST_GPUS:,} on this page, not {request.gpus:,}: crore plan "
                "takes more"
            )
        if self.catalog.accelerator(request.gpu).cpu:
            raise InputError(f"{request.gpu} is one machine, not a choice of counts: name a GPU")
        resolve(request, self.catalog)  # what no plan can be asked for is no answer either
        return request

    def _check_name(self, key: str, name: object) -> None:
        """Raise unless a name is one of the catalogue's, as it is typed or in other case."""
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"a scenario names its {key}, for example {key} {EXAMPLES[key]}")
        if name.strip().lower() in self._names[key]:
            return
        if key == "gpu":
            self.catalog.accelerator(name)  # it says which are near
        valid = self.catalog.models()
        raise UnknownName("model", name, valid, listing="crore catalog models")

    def _entry(self, request: PlanRequest) -> Record:
        key = self._key(request)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = self._found(request)
        with self._lock:
            self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def _key(self, request: PlanRequest) -> str:
        """Return the one address of a request, whatever its model and GPU are called in it."""
        model = self.catalog.model(request.model).name
        gpu = self.catalog.accelerator(request.gpu).name
        return scenarios.written(scenarios.scenario_of(replace(request, model=model, gpu=gpu)))

    def _is_page(self, request: PlanRequest) -> bool:
        """Return whether a request is the page's own, the number of GPUs apart."""
        return self._key(replace(request, gpus=1)) == self._key(replace(self.base, gpus=1))

    def _found(self, request: PlanRequest) -> Record:
        """Return the entry of a request; of the page's own, after those of fewer GPUs."""
        if self._is_page(request):
            at = [it for it in self.swept["at"] if it["gpus"] <= request.gpus]
            if not at or at[-1]["gpus"] != request.gpus:
                at.append(self._search(request))
            return list(entries({"at": at}))[-1]
        own = self._search(request)
        fewer = _fewer(request.gpus, own)
        below = [self._search(replace(request, gpus=fewer))] if fewer else []
        found = list(entries({"at": [*below, own]}))[-1]
        return found if found["needed_bytes"] is None else {**found, "hint": self._hint(request)}

    def _search(self, request: PlanRequest) -> Record:
        end_s = time.thread_time() + BUDGET_S

        def watch(_share: float, _found: Found) -> None:
            if time.thread_time() > end_s or self._stopped.is_set():
                raise _OverBudget

        try:
            return entry_of(next(sweep(request, [request.gpus], watch, self.catalog)))
        except _OverBudget as error:
            raise InputError(
                f"the search took more than {BUDGET_S:g} s of CPU time: crore plan takes its time"
            ) from error

    def _hint(self, request: PlanRequest) -> str:
        """Return what would make it fit."""
        question = resolve(request, self.catalog)
        miss = nearest_miss(question)
        return "" if miss is None else smallest_change(question, miss)

    def _first(self, request: PlanRequest) -> Record | None:
        """Return the first count that fits, where the page knows it."""
        if not self._is_page(request):
            return None
        return next((it for it in self.swept["at"] if it["plan"] is not None), None)

    def _plan(self, letter: str, request: PlanRequest) -> Plan:
        entry = self._entry(request)
        plan = whole_plan({"request": request_record(request)}, entry)
        if plan is None:
            raise Infeasible(f"{letter} has no plan: {entry['reason']}")
        return plan


EXAMPLES: Final = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": "16k"}


def live_of(swept: Record, points: Sequence[Record]) -> Live:
    """Return the planner behind the page of a sweep, whose points are `points`.

    Raises InputError for a sweep whose request is damaged.
    """
    base = request_from(swept["request"], "the sweep")
    catalog = load_catalog(base.catalog_file)
    names = {
        "model": _all_names(catalog, "models", catalog.models()),
        "gpu": _all_names(catalog, "accelerators", catalog.accelerators()),
    }
    return Live(
        swept=swept, base=base, catalog=catalog, points=points, _names=names,
        _axes=axes_of(points),
    )  # fmt: skip


def _all_names(catalog: Catalog, section: str, keys: Sequence[str]) -> frozenset[str]:
    aliases = [alias for key in keys for alias in catalog.aliases(section, key)]
    return frozenset(name.lower() for name in (*keys, *aliases))


def choices(live: Live) -> Record:
    """Return what a page offers: the names of models, and of GPUs that come in numbers."""
    catalog = live.catalog
    gpus = [name for name in catalog.accelerators() if not catalog.accelerator(name).cpu]
    return {"url": "plan", "models": list(catalog.models()), "gpus": gpus}


def _fewer(gpus: int, own: Record) -> int:
    """Return a smaller count that may serve better, 0 where none will: it divides well."""
    if own["needed_bytes"] is not None or (own["plan"] is not None and _is_smooth(gpus)):
        return 0
    below = max((count for count in DIVIDED_WELL if count <= gpus), default=0)
    return below if below < gpus else 0


def _is_smooth(count: int) -> bool:
    for prime in SMOOTH:
        while count % prime == 0:
            count //= prime
    return count == 1


def _answered(plan: Plan) -> Answer:
    """Return a plan as the answer that a comparison takes; how it was found is not told."""
    return Answer(
        request=plan.question.request, question=plan.question, plans=(plan,), evaluated=0,
        candidates=0, rejected={}, interrupted=False, search_cpu_s=0.0,
        gpu_counts=(plan.gpus,), what_if=(),
    )  # fmt: skip


def _called(request: PlanRequest) -> str:
    return f"{request.model} on {request.gpus:,} x {request.gpu}"


def _comparison(made: Comparison) -> Record:
    head = ["", *(f"{k}: {name}" for k, name in zip(LETTERS, made.names, strict=False))]
    body = [[label, *cells] for label, cells in rows(made)]
    causes = [line.strip() for it in made.differences for line in causes_of(it)]
    return {"table": table("the two last pinned", head, body), "causes": [*verdicts(made), *causes]}
