"""A mission held against its schema, the catalogue, arithmetic and memory: all findings at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from crore.catalog import Catalog, load_catalog
from crore.cost.layout import Layout, rules
from crore.cost.machine import PRECISIONS
from crore.cost.stack import stack_of
from crore.errors import Infeasible, InputError, UnknownName
from crore.io import read_text
from crore.plan.axes import pins_of
from crore.plan.candidates import Candidates
from crore.plan.infeasible import nearest_miss, why_infeasible
from crore.plan.mission import mission_names, mission_path, read_file, said
from crore.plan.objectives import search_objective
from crore.plan.request import PlanRequest, Question
from crore.plan.resolve import given_batch, number_errors, resolve
from crore.plan.schema import Problem, in_order
from crore.plan.search import usable_bytes
from crore.plan.stack_rules import SPLITS as STACK_SPLITS
from crore.plan.stack_rules import broken_rules
from crore.units import format_bytes, format_count

CHECK_VERSION: Final = 1
CAUSES: Final = (
    ("memory_margin", "limits.memory_margin"),
    ("world_gpus", "limits.world_gpus"),
    ("objective", "objective"),
    ("rule for lost worlds", "data.lost_worlds"),
    ("money basis", "money.basis"),
    ("days must be", "limits.days"),
    ("days, over the limit", "limits.days"),
    ("W at full load", "limits.power"),
    ("global batch", "data.global_batch"),
    ("sequence length", "data.seq_len"),
    ("peak in the catalogue", "precision"),
    ("precision", "precision"),
    ("--stack", "stack"),
    ("fabric", "cluster.fabric"),
)
"""What a planner's message holds -> the key it is about; anything else is about the machines."""
SPLITS: Final = ("tp", "pp", "cp", "ep", "etp")
"""Pins that divide something of the model."""
NEEDS_SEARCH: Final = ("gpus", "power_w", "days")
"""Limits that only a search can tell to hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What was found in one mission."""

    file: str
    problems: tuple[Problem, ...]
    checked: str
    """What holds, for a mission without problems."""

    @property
    def exit_code(self) -> int:
        """0 fine, 1 sound but infeasible, 2 bad."""
        if not self.problems:
            return 0
        return 1 if all(problem.sound for problem in self.problems) else 2


def check_mission(name: str, catalog_file: Path | None = None) -> Check:
    """Return everything that is wrong with a mission, by name or path.

    Raises UnknownName when there is no such mission, InputError when the file is no TOML or the
    user's catalogue is refused.
    """
    path = mission_path(name)
    if path is None:
        raise UnknownName("mission", name, mission_names())
    catalog = load_catalog(catalog_file)
    fields, problems = read_file(path)
    problems = [*problems, *_words(fields, catalog)]
    checked = ""
    if "model" in fields:
        request = PlanRequest(**fields)
        problems += _numbers(request)
        if not problems:
            checked, more = _as_a_whole(request, catalog)
            problems += more
    return Check(
        file=path.name, checked=checked, problems=tuple(in_order(problems, read_text(path)))
    )  # fmt: skip


def _words(fields: Mapping[str, Any], catalog: Catalog) -> Iterator[Problem]:
    """Yield every name that nobody knows."""
    tables: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("model", "model", catalog.model),
        ("cluster", "cluster.name", catalog.cluster),
        ("gpu", "cluster.gpu", catalog.accelerator),
        ("fabric", "cluster.fabric", catalog.fabric),
        ("wan", "cluster.wan", catalog.fabric),
        ("precision", "precision", _precision),
        ("stack", "stack", stack_of),
    )
    for field, key, look_up in tables:
        try:
            if field in fields:
                look_up(fields[field])
        except InputError as error:
            yield Problem(key=key, text=str(error))


def _precision(name: str) -> None:
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)


def _numbers(request: PlanRequest) -> list[Problem]:
    """Return what is wrong with numbers whatever the model: ranges, and tokens in batches."""
    found = [_problem(error) for error in number_errors(request)]
    tokens, seq_len = request.tokens, request.seq_len
    try:
        batch = given_batch(request, seq_len) if seq_len else None
    except InputError as error:
        batch = None
        found.append(Problem(key="data.global_batch_tokens", text=f"{error}: change one of them"))
    if tokens and seq_len and batch and tokens < batch * seq_len:
        text = (
            f"{format_count(tokens)} tokens are less than one batch of {batch:,} sequences x "
            f"{seq_len:,}: give more tokens or a smaller batch"
        )
        found.append(Problem(key="data.tokens", text=text))
    return found


def _problem(error: Exception) -> Problem:
    """Return an error of the planner under the key to change first."""
    text = str(error)
    key = next((key for phrase, key in CAUSES if phrase in text), "cluster")
    return Problem(key=key, text=text, sound=isinstance(error, Infeasible))


def _as_a_whole(request: PlanRequest, catalog: Catalog) -> tuple[str, list[Problem]]:
    """Return what holds of a request whose parts are right, and what does not."""
    try:
        q = resolve(request, catalog)
    except InputError as error:
        return "", [_problem(error)]
    pins = [*_pin_words(q), *_pin_splits(q)]
    if pins:
        return "", pins
    try:
        peak = _feasible(q)
    except Infeasible as error:
        return "", [_problem(error)]
    return _holds(q, peak), []


def _pin_words(q: Question) -> Iterator[Problem]:
    """Yield pins whose word no table holds."""
    for key, value in q.request.fix.items():
        try:
            pins_of(replace(q, request=replace(q.request, fix={key: value})))
        except InputError as error:
            yield Problem(key=f"fix.{key}", text=str(error))


def _pin_splits(q: Question) -> Iterator[Problem]:
    """Yield pins that do not divide what they split: heads, layers, widths, experts, sequence."""
    pins = {key: int(q.request.fix[key]) for key in SPLITS if key in q.request.fix}
    for key, value in pins.items():
        ranks = value if key in ("ep", "etp") else 1
        layout = replace(Layout(dp_shard=float(ranks)), **{key: float(value)})
        alone = Candidates(layout=layout, islands=1.0, worlds=1.0, batch=layout.dp)
        broken = chain(
            rules(layout, q.shape, layout.dp, layout.gpus, q.seq_len),
            broken_rules(q, alone, STACK_SPLITS),
        )
        for reason in [reason for reason, mask in broken if np.any(mask)]:
            text = f"{reason}: {key}={value}, {_divisible(q)}; pin another {key}, or none"
            yield Problem(key=f"fix.{key}", text=text)
    ranks = pins.get("tp", 1) * pins.get("pp", 1) * pins.get("cp", 1)
    if not q.is_fleet and q.gpus % ranks:
        text = f"tp x pp x cp = {ranks:,} does not divide {q.gpus:,} GPUs: change a pin or the GPUs"
        yield Problem(key="fix", text=text)


def _divisible(q: Question) -> str:
    experts = f", {q.model.experts} experts" if q.model.experts else ""
    return f"{q.model.heads} heads, {q.model.layers} layers{experts}, sequences of {q.seq_len:,}"


def _feasible(q: Question) -> float:
    """Return a peak that fits, in bytes; raises Infeasible when no layout does."""
    miss = nearest_miss(q)
    quick = not any(getattr(q.request.limits, key) for key in NEEDS_SEARCH)
    if quick and miss is not None and miss.peak_bytes <= usable_bytes(q):
        return miss.peak_bytes
    outcomes = [found for _, found in search_objective(q)]
    peaks = [it.peak_bytes for found in outcomes for it in found.ranked]
    if not peaks:
        raise why_infeasible(q, outcomes[0])
    return min(peaks)


def _holds(q: Question, peak: float) -> str:
    """Say what was checked, with the numbers."""
    steps = q.tokens / (q.global_batch * q.seq_len)
    return (
        f"{q.model.name} on {q.gpus:,} x {q.accelerator.name}, {q.precision}, {q.stack_name}: "
        f"names known, units read, {format_count(q.tokens)} tokens are {steps:,.0f} steps of "
        f"{q.global_batch:,} sequences, a layout divides and fits "
        f"(from {format_bytes(peak)} of {format_bytes(usable_bytes(q))} per GPU)"
    )


def check_record(check: Check) -> dict[str, Any]:
    """Return the findings as the JSON document's body."""
    return {
        "file": check.file,
        "ok": not check.problems,
        "problems": [
            {"line": p.line, "key": p.key, "kind": "infeasible" if p.sound else "bad",
             "message": p.text}
            for p in check.problems
        ],
        "checked": check.checked,
    }  # fmt: skip


def render_check(check: Check) -> str:
    """Return one line per finding, or one that says what was checked."""
    if not check.problems:
        return f"ok  {check.file}: {check.checked}"
    return "\n".join(said(check.file, problem) for problem in check.problems)
