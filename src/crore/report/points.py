"""One GPU count of a sweep as the page shows it: verdict, facts, bars, tables, all as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from crore.catalog import Catalog
from crore.cost.goodput import DISK, PEER_MEMORY, restart_goodput
from crore.io import Record
from crore.plan.text.takes import WORDS
from crore.report.marks import drawn, spread, triple
from crore.report.swing import peak_w
from crore.report.tiers import tiers
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_kg,
    format_percent,
    format_usd,
    format_watts,
    three_digits,
)

DAY_S: Final = 86_400.0
SMALLEST: Final = 5e-4
"""Parts of a bar below this share of the whole are left out of it."""
HAZARDS: Final = (1 / 3, 3.0)
"""Failure rates over that of Llama 3's cluster between which the band of goodput lies: nobody has
published the rate of a fleet ten times as large."""
POLICIES: Final = (
    ("plan", "as planned"),
    ("restart from disk", "all in step, restart from disk"),
    ("restart from peers' memory", "all in step, restart from peers' memory"),
    ("quorum of worlds", "all in step, a quorum of worlds"),
)
ESTIMATE: Final = "estimate"
MEMORY_PARTS: Final = (
    ("weights", "the model's own"), ("gradients", "of a step"), ("optimizer", "its states"),
    ("gathered layers", "weights of other ranks, for the moment"),
    ("activations", "kept for the backward pass"), ("logits", "of the last layer"),
    ("working", "inside a layer"), ("fragmentation", "of the allocator"),
    ("context", "of the driver and libraries"), ("free", "left"),
)  # fmt: skip
STEP_PARTS: Final = (
    ("products", "matrix products"), ("attention", "scores and values"),
    ("memory passes", "norms, activations, masks"), ("embedding, head, loss", "both ends"),
    ("recompute", "done twice to save memory"), ("tp", "tensor-parallel messages"),
    ("cp", "context-parallel messages"), ("ep", "expert-parallel messages"),
    ("pp", "messages between stages"), ("offload", "to and from the host"),
    ("host", "launching kernels"), ("bubble", "stages waiting for each other"),
    ("dp", "gradients that nothing hides"), ("optimizer", "its step"),
    ("stragglers", "waiting for the slowest GPU"), ("uneven stages", "some have more layers"),
)  # fmt: skip


def point(entry: Record, catalog: Catalog, first_fit: Record | None, wan: str = "") -> Record:
    """Return one entry of a sweep (`sweeping.entries`) as a point of the page.

    `first_fit` is the first entry of the sweep that has a plan, which short ones point to; `wan`
    is the network between sites, the default one where empty.
    """
    plan = entry["plan"]
    if plan is None:
        return head(entry) | _without(entry, first_fit)
    return head(entry) | {
        "reason": "", "used": plan["gpus"], "used_text": format_int(plan["gpus"]),
        "facts": [list(it) for it in _facts(plan)],
        "limit": _limit(plan), "layout": layout_line(plan), "change": [],
        "memory": _memory(plan, entry), "step": _step(plan), "goodput": _goodput(plan),
        "goodput_band": _band(plan),
        "days": [drawn(plan["days"][k]) for k in ("low", "value", "high")],
        "usd": triple(plan["cost_usd"]), "power_w": triple(plan["power_w"]),
        "ready": triple(plan["ready_year"]), "fabric": tiers(plan, catalog, wan),
        "drivers": _drivers(plan),
    }  # fmt: skip


def head(entry: Record) -> Record:
    """Return what tells one count from another that has the same plan."""
    gpus, plan = entry["gpus"], entry["plan"]
    words: Record = {"gpus": gpus, "gpus_text": format_int(gpus), "aria": f"{gpus:,} GPUs"}
    if plan is None:
        return words
    state = "idle" if entry["idle"] else "fits"
    return {**words, "state": state, "verdict": _verdict(plan, gpus, gpus - plan["gpus"], state)}


def _without(entry: Record, first_fit: Record | None) -> Record:
    """Return a point without a plan: memory does not hold it, or a rule is in the way."""
    short = entry["needed_bytes"] is not None
    change = ["quantised, or with adapters, it may do with less: crore fit"]
    if first_fit is not None:
        change.insert(0, f"the first count of this sweep that fits: {first_fit['gpus']:,} GPUs")
    needed = format_bytes(entry["needed_bytes"]) if short else ""
    held = format_bytes(entry["usable_bytes"]) if short else ""
    memory = {
        "capacity": entry["capacity_bytes"], "capacity_text": format_bytes(entry["capacity_bytes"]),
        "used": entry["needed_bytes"], "used_text": needed, "usable": entry["usable_bytes"],
        "usable_text": held, "parts": [],
    }  # fmt: skip
    verdict = f"DOES NOT FIT  at least {needed} per GPU needed, {held} usable"
    return {
        "state": "short" if short else "none", "verdict": verdict if short else "NO PLAN",
        "reason": "" if short else entry["reason"],
        "used": 0, "used_text": "0", "facts": [], "limit": "memory" if short else "",
        "layout": "", "change": change, "memory": memory if short else None, "step": None,
        "goodput": {}, "goodput_band": None, "days": None, "usd": None, "power_w": None,
        "ready": None, "fabric": [], "drivers": [],
    }  # fmt: skip


def _verdict(plan: Record, gpus: int, idle: int, state: str) -> str:
    words = str(plan["verdict"])
    if state == "idle":
        return f"{words}; {idle:,} of {gpus:,} GPUs idle: more do not make it faster"
    return f"{words}; {idle:,} GPUs spare" if idle else words


def days_text(days: Mapping[str, Any]) -> tuple[str, str]:
    """Return a run's length and its 80 % interval."""
    low, value, high = (format_duration(days[k] * DAY_S) for k in ("low", "value", "high"))
    return value, f"{low} to {high}"


def quarter(year: float) -> str:
    """Return a year and a part of it as its quarter: 2032.8 is `Q4 2032`."""
    whole = int(year)
    return f"Q{int((year - whole) * 4) + 1} {whole}"


FACTS: Final = (
    ("memory", "memory of a GPU"), ("days", "time to train"), ("cost_usd", "cost of the run"),
    ("power_w", "power at the meter"), ("energy_j", "energy of the run"), ("co2_kg", "CO2"),
    ("capital_usd", "to buy it all"), ("sites", "sites that feed it"),
    ("rental_usd", "rented, it would be"), ("ready_year", "delivered by"),
    ("goodput", "time that makes progress"), ("mfu", "model FLOP utilisation"),
)  # fmt: skip
"""Key of a fact -> what it is called."""
SHOWN: Final[Mapping[str, Callable[[float], str]]] = {
    "cost_usd": format_usd, "power_w": format_watts, "energy_j": format_energy,
    "co2_kg": format_kg, "capital_usd": format_usd, "sites": format_int,
    "rental_usd": format_usd, "ready_year": quarter,
}  # fmt: skip


NOTES: Final = {
    "power_w": "on average; halls and sites are sized for full load",
    "capital_usd": "of which the run pays its share, for as long as it lasts",
}
"""What a figure is, where that is easily taken for something else."""


def _facts(plan: Record) -> list[tuple[str, str, str, str, str]]:
    """Return (key, value, 80 % range, evidence, note) of every headline number, as text.

    A renter buys nothing and pays the rental: neither is told apart.
    """
    rents = plan["capital_usd"] is None and plan["cost_usd"] is not None
    left = ("capital_usd", "rental_usd") if rents else ()
    peak, notes = peak_w(plan), dict(NOTES)
    if peak is not None:
        notes["power_w"] += f"; {format_watts(peak)} at its peak"
    value, span = days_text(plan["days"])
    evidence = plan["days"]["evidence"]
    capacity = format_bytes(plan["memory_capacity_bytes"])
    margin = "up to which a plan counts as fitting: all of it, less a margin"
    risk = f"{100 * plan['risk']:.0f} %: memory runs out, or a step takes a quarter longer"
    mean = format_duration(plan["mtbf_s"])
    return [
        ("memory", format_bytes(plan["memory_bytes_per_gpu"]), f"of {capacity}",
         plan["step_time_s"]["evidence"], margin),
        ("days", value, span, evidence, risk),
        *(
            (key, *spread(plan[key], show), "unknown" if plan[key] is None else ESTIMATE,
             notes.get(key) or mover(plan[key]))
            for key, show in SHOWN.items() if key not in left
        ),
        ("goodput", format_percent(plan["goodput"]), "", ESTIMATE,
         f"a failure every {mean}; {recovery(plan)}"),
        ("mfu", format_percent(plan["mfu"]), "", evidence, "of the dense peak"),
    ]  # fmt: skip


def mover(one: Mapping[str, Any] | None) -> str:
    """Return what moves a figure most; the table of assumptions has its source."""
    moved = None if one is None else one["moved_by"]
    return "" if moved is None else f"moved most by {in_words(moved['name'])}"


def in_words(name: str) -> str:
    """Return an assumption's name as a sentence has it."""
    name = name.removeprefix("supply.")
    return WORDS.get(name, name.replace("_", " "))


def recovery(plan: Record) -> str:
    """Return how a plan goes on after a failure, in words."""
    if plan["islands"] > 1:
        return f"{plan['islands']} islands of {plan['worlds'] // plan['islands']} worlds go on"
    if plan["worlds"] > 1:
        return f"a quorum of {plan['worlds']} worlds goes on"
    words = {"disk": "all restart from disk", "peer": "all restart from peers' memory"}
    return words.get(plan["recovery"], "the others go on")


def layout_line(plan: Record) -> str:
    """Return a layout as one line of the usual names."""
    it = plan["layout"]
    fleet = [f"{plan[k]} {k}" for k in ("islands", "worlds") if plan[k] > 1]
    degrees = [f"{k} {it[k]}" for k in ("tp", "cp", "ep", "pp", "vpp", "dp") if it[k] > 1]
    schedule = [it["schedule"]] if it["pp"] > 1 else []
    rest = [f"micro-batch {it['micro_batch']}", *schedule, it["zero"],
            f"recompute {it['recompute']}", it["precision"]]  # fmt: skip
    batch = f"{format_count(plan['global_batch_tokens'])} tokens a step"
    return ", ".join([*fleet, *degrees, *rest, batch])


def _limit(plan: Record) -> str:
    binding = [limit for limit in plan["limits"] if limit["binds"]]
    if not binding:
        return "no limit binds: more GPUs make it faster"
    return "; ".join(f"{limit['name']}: {limit['note']}" for limit in binding)


def _memory(plan: Record, entry: Record) -> Record:
    capacity, peak = plan["memory_capacity_bytes"], plan["memory_bytes_per_gpu"]
    sizes = {**plan["memory_split_bytes"], "free": capacity - peak}
    parts = [
        [k, drawn(sizes[name]), format_bytes(sizes[name]), _share(sizes[name] / capacity)]
        for k, (name, _) in enumerate(MEMORY_PARTS)
        if sizes.get(name, 0.0) > SMALLEST * capacity
    ]
    usable = entry["usable_bytes"] or capacity
    return {
        "capacity": capacity, "capacity_text": format_bytes(capacity), "used": peak,
        "used_text": format_bytes(peak), "usable": usable,
        "usable_text": format_bytes(usable), "parts": parts,
    }  # fmt: skip


def _step(plan: Record) -> Record:
    total, split = plan["step_time_s"]["value"], plan["step_split_s"]
    return {
        "text": f"{three_digits(total)} s",
        "parts": [
            [k, drawn(split[name] / total), f"{three_digits(split[name])} s",
             _share(split[name] / total)]
            for k, (name, _) in enumerate(STEP_PARTS)
            if split.get(name, 0.0) > SMALLEST * total
        ],
    }  # fmt: skip


def _goodput(plan: Record) -> dict[str, float]:
    return {"plan": drawn(plan["goodput"])} | {
        name: drawn(value) for name, value in plan["goodput_by_policy"].items()
    }


def _band(plan: Record) -> list[float]:
    """Return the plan's goodput at a third and at three times the failures, low first.

    Losses grow with the rate: `1 - g` is scaled where worlds or islands go on, and the closed form
    of a restart is asked anew.
    """
    ends = []
    for hazard in HAZARDS[::-1]:
        if plan["recovery"] in ("disk", "peer"):
            how = DISK if plan["recovery"] == "disk" else PEER_MEMORY
            ends.append(float(restart_goodput(float(plan["gpus"]), *how, hazard)))
        else:
            ends.append(1 / (1 + hazard * (1 / plan["goodput"] - 1)))
    return [drawn(value) for value in ends]


DRIVERS: Final = ("time to train", "GPUs at work", "utilisation (MFU)", "goodput",
                  "tokens a step", "a step", "messages waited for", "bubble", "cost",
                  "layout")  # fmt: skip
"""What two plans are compared by."""


def _drivers(plan: Record) -> list[str]:
    total, split = plan["step_time_s"]["value"], plan["step_split_s"]
    apart = sum(split.get(k, 0.0) for k in ("tp", "cp", "ep", "pp", "dp"))
    return [
        days_text(plan["days"])[0], format_int(plan["gpus"]), format_percent(plan["mfu"]),
        format_percent(plan["goodput"]), format_count(plan["global_batch_tokens"]),
        f"{three_digits(total)} s", _share(apart / total),
        _share(split.get("bubble", 0.0) / total), spread(plan["cost_usd"], format_usd)[0],
        layout_line(plan),
    ]  # fmt: skip


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"
