"""Every number of a plan file -> what explains it. A new number of the file needs a line here.

`tests/plan/test_explain_table.py` names the number that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from crore.cost.fabric import FabricDesign, design
from crore.cost.fabric_bill import bill_of, units
from crore.cost.fabric_choices import choices
from crore.cost.fabric_counts import clos
from crore.cost.layout import Layout, layers_per_stage
from crore.cost.layout import micro_batches as micro_batches_of
from crore.plan.explain.again import Case, leaves
from crore.plan.explain.entry import ESTIMATE, STEP, Entry
from crore.plan.explain.figures import figure_entries
from crore.plan.explain.inputs import row_origin
from crore.plan.explain.notes import field_note
from crore.plan.explain.parts import bill_items
from crore.plan.explain.run import run_entries
from crore.plan.explain.step import step_entries
from crore.plan.network import choose_network
from crore.plan.request import Limits, PlanRequest
from crore.plan.search import Found

DESIGNED = ("tiers", "planes", "rails", "taper", "radix", "endpoints", "max_endpoints", "switches",
            "links", "optic_ends", "diameter", "bisection", "power_w", "price_usd.low",
            "price_usd.value", "price_usd.high")  # fmt: skip
CHOSEN = ("planes", "rails", "taper")
SHOWN = ("switches", "optic_ends", "power_w", "price_usd.value")
BOUGHT = {
    "count": ("", "", "of them"),
    "unit_usd": ("USD", "", "one of them"),
    "total_usd": ("USD", "{it}.count * {it}.unit_usd", "all of them"),
    "power_w": ("W", "{it}.count * {name}.power_w", "all of them"),
}
PRICED = "priced while the plan was made, not priced again"
COUNTED = {
    "candidates": "settings in the space",
    "evaluated": "of these, priced in full",
    "search_cpu_s": "CPU time of the search",
}


def table(case: Case) -> dict[str, Entry]:
    """Return the explanation of every number of a plan, and of the steps between."""
    entries = [*step_entries(case), *run_entries(case), *_fabric(case), *_layout(case),
               *_asked(case), *_search(case), *_what_if(case), *figure_entries(case)]  # fmt: skip
    return {entry.key: entry for entry in entries}


def _layout(case: Case) -> Iterator[Entry]:
    pinned, layout = case.plan.question.request.fix, case.plan.layout
    for name in leaves({"layout": dict(layout)}):
        own = name.removeprefix("layout.")
        about = field_note(Layout, own) or f"{own} of one island"
        how = "pinned by --fix" if own in pinned else "chosen by the search"
        if own not in ("dp", "micro_batches", "stage_layers"):
            yield Entry(
                key=name, group="layout", unit="", about=about, kind="choice", note=how,
                listed=False,
            )  # fmt: skip
    axes = ("layout.dp_replicate", "layout.dp_shard")
    yield Entry(
        key="layout.dp", group="layout", unit="ranks", about="data-parallel ranks of one island",
        formula=" * ".join(axes), inputs=axes, functions=(cast(property, Layout.dp),), listed=False,
    )  # fmt: skip
    yield Entry(
        key="layout.micro_batches", group="layout", unit="", listed=False, kind="choice",
        about="micro-batches per step and data-parallel rank", functions=(micro_batches_of,),
        note="the global batch that was asked for, rounded down to what divides",
    )  # fmt: skip
    yield Entry(
        key="layout.stage_layers", group="layout", unit="layers", listed=False,
        about="on the fullest pipeline rank", functions=(layers_per_stage,),
        inputs=("model:layers", "layout.pp", "layout.end_slots"),
    )  # fmt: skip


def _asked(case: Case) -> Iterator[Entry]:
    q = case.plan.question
    given = {"tokens": ("tokens", "to train on"), "seq_len": ("tokens", "per sequence"),
             "gpus_available": ("GPUs", "there are")}  # fmt: skip
    starts = {"seq_len": "sequence length"}
    for key, (unit, about) in given.items():
        start = starts.get(key, "")
        line = next((d for d in q.derived if start and d.startswith(start)), "")
        line = line or next(
            (d for d in q.derived if key == "tokens" and "20 per parameter" in d), ""
        )
        where = line or (f"cluster {q.cluster.name}" if q.cluster and "gpus" in key else "")
        yield Entry(
            key=key, group="fleet", unit=unit, about=about, kind="input",
            listed=False, note=where or f"the request: {_request_key(case, key)}",
        )  # fmt: skip
    for key in leaves({"request": case.record.get("request")}):
        own = key.removeprefix("request.")
        inner = own.startswith("limits.")
        owner: type = Limits if inner else PlanRequest
        name = own.removeprefix("limits.")
        yield Entry(
            key=key, group="request", unit="", kind="input", listed=False,
            about=field_note(owner, name) or own, note="given by the user, or the default",
        )  # fmt: skip
    for key in leaves({"fixed": case.record.get("fixed")}):
        yield Entry(
            key=key, group="request", unit="", kind="input", listed=False,
            about="pinned", note="given by the user: --fix",
        )  # fmt: skip


def _request_key(case: Case, key: str) -> str:
    pinned = case.plan.question.request.fix
    return f"fix.{key}" if key in pinned else key.removesuffix("_available")


def _search(case: Case) -> Iterator[Entry]:
    keys = {key: field_note(Found, key) or about for key, about in COUNTED.items()}
    rejected = leaves({"rejected": case.record.get("rejected") or {}})
    keys |= dict.fromkeys(rejected, "settings that fell to this rule")
    tried = leaves({"gpu_counts": case.record.get("gpu_counts") or []})
    keys |= dict.fromkeys(tried, "a GPU count that was searched")
    for key, about in keys.items():
        yield Entry(
            key=key, group="search", unit="s" if key.endswith("_s") else "settings", about=about,
            kind="counted", evidence="counted while the plan was made, not counted again",
            listed=False,
        )  # fmt: skip


def _what_if(case: Case) -> Iterator[Entry]:
    """Steps away from the plan: other plans' times, priced when this one was made."""
    for place, step in enumerate(case.record.get("what_if") or (), 1):
        for key in leaves({"what_if": {str(place): step}}):
            yield Entry(
                key=key, group="search", unit="s" if key.endswith("_s") else "",
                about=f"{key.rpartition('.')[2]} with {step.get('step', 'one step away')}",
                kind="counted", evidence=PRICED, listed=False,
            )  # fmt: skip


def _fabric(case: Case) -> Iterator[Entry]:
    network = case.plan.network
    if network.named is not None:
        for name in ("tiers", "planes", "taper"):
            named = network.named
            yield Entry(
                key=f"fabric.{name}", group="fabric", unit="", about=f"of {named.name}",
                kind="input", note=row_origin(f"fabric {named.name}", named.provenance, name)[0],
            )  # fmt: skip
    if network.design is None:
        return
    yield from _design("fabric", network.design, listed=True)
    for item in network.design.bill_of_materials:
        it = f"fabric.bill_of_materials.{item.name}"
        power, price = (f"part:{item.name}.{field}" for field in ("power_w", "price_usd"))
        inputs = {"count": ("fabric.switches", "fabric.links"), "unit_usd": (price,),
                  "total_usd": (f"{it}.count", f"{it}.unit_usd"),
                  "power_w": (f"{it}.count", power)}  # fmt: skip
        for name, (unit, formula, about) in BOUGHT.items():
            yield Entry(
                key=f"{it}.{name}", group="fabric", unit=unit, about=f"{about}, {item.name}",
                evidence=ESTIMATE, formula=formula.format(it=it, name=item.name),
                functions=(bill_of, units), inputs=inputs[name], listed=False,
            )  # fmt: skip
    for place, (other, _) in enumerate(network.alternatives, 1):
        yield from _design(f"fabric.alternatives.{place}", other, listed=False)
        yield Entry(
            key=f"fabric.alternatives.{place}.step_time_s", group="fabric", unit="s", evidence=STEP,
            about="of this layout on that network", functions=(choose_network,), listed=False,
            inputs=("step_time_s.value",),
        )  # fmt: skip


def _design(prefix: str, it: FabricDesign, *, listed: bool) -> Iterator[Entry]:
    """A chosen network: its counts, its power, its price."""
    counts = (clos,) if it.topology in ("clos", "rail-only") else ()
    for name in DESIGNED:
        bought, choice = name.startswith(("price_usd", "power_w")), name in CHOSEN
        made = (bill_of,) if bought else (*counts, design)
        field = name.partition(".")[0]
        says = field_note(FabricDesign, field)
        about = f"{field.partition('_')[0]} of the {it.topology} network"
        about += says and f", {says[0].lower()}{says[1:].rstrip('.')}"
        parts = tuple(f"part:{item.name}.{field}" for item in it.bill_of_materials)
        form = () if choice else tuple(f"{prefix}.{key}" for key in CHOSEN)
        yield Entry(
            key=f"{prefix}.{name}", group="fabric", about=about, evidence=ESTIMATE,
            unit=("W" if name == "power_w" else "USD") if bought else "",
            kind="choice" if choice else "derived",
            note=f"chosen with the topology, {it.topology}" if choice else "",
            functions=(choices, choose_network) if choice else made,
            inputs=("island_gpus", "machine:nic_bytes_per_s", *form, *(parts if bought else ())),
            listed=listed and name in SHOWN, items=partial(bill_items, it, name),
        )  # fmt: skip
