"""The table of explanations, third part: what a plan takes, as drawn from its assumptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from crore.catalog import Accelerator
from crore.cost.load import Load, load_of
from crore.cost.outlay import METERED, RUN, Taken, outlay, taken
from crore.cost.reach import drawn_years, movers_of
from crore.cost.scenario import ramp_of
from crore.cost.supply import fleet_units, years_to
from crore.plan.explain.again import Case
from crore.plan.explain.entry import ESTIMATE, STEP, Entry
from crore.plan.explain.notes import field_note
from crore.plan.figures import FIGURES, OUTER

GROUP: Final = "money and power"
ENDS: Final = {
    "p10": "10 % of the draws are below",
    "p50": "half of the draws are below",
    "p90": "90 % of the draws are below",
    "likely": "every assumption at its likely value",
}
TIMED: Final = ("cost_usd", "energy_j", "co2_kg", "rental_usd", "electricity_usd",
                "cost_of_less_usd", "cost_per_1e24_flop_usd",
                "cost_per_1t_tokens_usd")  # fmt: skip
"""What follows from the length of the run."""
LISTED: Final = ("cost_usd", "power_w", "energy_j", "ready_year")
"""Shown without being asked for: the list of a fleet fills a screen."""
POWER: Final = ("power_w", "energy_j", "co2_kg", "electricity_usd", "sites", "embodied_kg")
LOADS: Final = {"_w": "W", "_j": "J", "_s": "s"}


def figure_entries(case: Case) -> Iterator[Entry]:
    """Yield a line for every figure of the plan that is known."""
    for key in case.numbers:
        name, _, end = key.partition(".")
        if name in FIGURES:
            yield _figure(case, key, name, end)
        elif name in ("cost_split_usd", "capital_split_usd"):
            yield _split(case, key, name, end)
        elif name == "power_split_w":
            yield Entry(
                key=key, group=GROUP, unit="W", about=f"average of {end}, likely",
                evidence=ESTIMATE, functions=(outlay,), inputs=_inputs(case, "power_w"),
                listed=False,
            )  # fmt: skip
        elif name == "load":
            yield _load(key, end)


def _figure(case: Case, key: str, name: str, end: str) -> Entry:
    one = case.figures.taken[name]
    if name != "ready_year":
        return figure_entry(key, end, one, _inputs(case, name))
    functions: tuple[Callable[..., Any], ...] = (years_to, fleet_units, ramp_of)
    if end.startswith("moved_by"):
        functions += (movers_of,)
    elif end != "likely":
        functions += (drawn_years,)
    return replace(figure_entry(key, end, one, _supplied(case)), functions=functions)


def figure_entry(key: str, end: str, one: Taken | None, inputs: tuple[str, ...]) -> Entry:
    """Return the line of an end of a figure, whose name is in its `key` just before the end."""
    name = key.removesuffix(f".{end}").rpartition(".")[2]
    unit, about = FIGURES[name]
    moved = end.startswith("moved_by")
    says = f"with the assumption that moves it most at its {end.rpartition('.')[2]} end"
    return Entry(
        key=key, group=GROUP, unit=unit, about=f"{about}; {says if moved else ENDS[end]}",
        evidence=STEP if name in TIMED else ESTIMATE, inputs=inputs,
        functions=(outlay,) if end == "likely" or moved else (taken, outlay),
        listed=end == "p50" and name in LISTED,
        note=f"moved most by {one.mover}: {one.source}" if one and one.mover else "",
    )  # fmt: skip


def _supplied(case: Case) -> tuple[str, ...]:
    one = case.figures.taken["ready_year"]
    moved = one.moved_by if one else ()
    names = (own.removeprefix(OUTER) for own in moved)
    return ("gpus", *(f"supply:{case.figures.supply}.{name}" for name in names))


def _inputs(case: Case, name: str) -> tuple[str, ...]:
    """Return what goes into a figure: the plan's own numbers and every range that moves it."""
    one = case.figures.taken[name]
    run = ["run_s", "days.low", "days.high"] if one and RUN in one.moved_by else []
    per = {"cost_per_1t_tokens_usd": ["tokens"], "cost_of_less_usd": [f"const:{OUTLAY}LESS"],
           "cost_per_1e24_flop_usd": ["model_flops_per_s_per_gpu"]}.get(name, [])  # fmt: skip
    return ("gpus", *run, *per, *range_words(one, name, case.plan.question.accelerator))


def range_words(one: Taken | None, name: str, part: Accelerator) -> list[str]:
    """Return the words for every range that moves a figure, and for the GPU's own figures."""
    moved = one.moved_by if one else ()
    words = [range_word(own, part.name) for own in moved if own != RUN]
    # Whole sites may be the same at both ends of what they depend on.
    words += [f"economics:{own}" for own in METERED if name == "sites" and own not in moved]
    rented = name == "rental_usd" or "rental" in moved
    words += ["gpu:tdp_w"] if name in POWER and part.tdp_w else []
    return words + (["gpu:price_usd"] if name not in POWER and not rented else [])


def range_word(own: str, accelerator: str) -> str:
    """Return the word of `explain_inputs` for an assumption."""
    shares = {"idle_share": "IDLE_RANGE", "message_share": "MESSAGE_RANGE"}
    if own in shares:
        return f"const:crore.cost.power.{shares[own]}"
    return f"rental:{accelerator}" if own == "rental" else f"economics:{own}"


OUTLAY: Final = "crore.cost.outlay."


def _split(case: Case, key: str, name: str, part: str) -> Entry:
    whole = f"{name.removesuffix('_split_usd')}_usd"
    about = f"of the {'run' if whole == 'cost_usd' else 'purchase'}'s dollars, likely: {part}"
    bill = case.plan.network.design is not None and part == "network"
    inputs = ("islands", "fabric.price_usd.value") if bill else _inputs(case, whole)
    return Entry(
        key=key, group=GROUP, unit="USD", about=about, functions=(outlay,), inputs=inputs,
        evidence=STEP if whole == "cost_usd" else ESTIMATE, listed=False,
        note="of the network's own bill of materials" if bill else "",
    )  # fmt: skip


def _load(key: str, name: str) -> Entry:
    unit = next((unit for end, unit in LOADS.items() if name.endswith(end)), "share")
    return Entry(
        key=key, group=GROUP, unit=unit, about=field_note(Load, name) or name,
        evidence=ESTIMATE, functions=(load_of,), listed=False,
        inputs=("gpus", "gpu:tdp_w", "islands", "step_time_s.value", "step_split_s.dp",
                "const:crore.cost.power.MESSAGE_SHARE", "const:crore.plan.figures.LOW"),
    )  # fmt: skip
