"""The table of explanations, second part: the run, failures, fleet, money, power and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from crore.catalog.islands import load_measured_islands
from crore.cost.batch import critical_batch, critical_batches
from crore.cost.goodput import mean_time_between_failures_s, quorum_goodput, restart_goodput
from crore.cost.islands import diloco_efficiency, islands_goodput, outer_bytes, sent_bits
from crore.cost.latency import latency_floor_s
from crore.cost.money import card_usd_per_gpu_hour, it_usd, ownership_usd_per_gpu_hour
from crore.cost.power import energy_j, gpu_power_w, site_power_w
from crore.cost.readiness import (
    checkpoint_bytes,
    checkpoint_write_bytes_per_s,
    data_epochs,
    input_bytes_per_s,
    startup_s,
)
from crore.plan.economy import economy_of, risk_of
from crore.plan.explain.again import SPREAD, Case
from crore.plan.explain.entry import ESTIMATE, STEP, Entry
from crore.plan.fleet import goodput, rounds_of
from crore.plan.limits import limits_of

GOODPUT: Final = "crore.cost.goodput."
FLEET: Final = "crore.plan.fleet."
STEP_S: Final = "step_time_s.value"
SHIPPED: Final = "learning_efficiency"


def run_entries(case: Case) -> Iterator[Entry]:
    """Yield the run's length, failures, fleet, money and power, and limits."""
    yield from _run(case)
    yield from _failures(case)
    yield from _learning(case)
    yield from _fleet(case)
    yield from _economy(case)
    yield from _limits(case)


def _run(case: Case) -> Iterator[Entry]:
    rounds = case.plan.rounds
    yield Entry(
        key="days.value", group="time", unit="days", about="until the last token",
        evidence=STEP, formula="run_s / DAY_S", inputs=("run_s", "const:crore.plan.plan.DAY_S"),
    )  # fmt: skip
    for end, other in (("low", "high"), ("high", "low")):
        yield Entry(
            key=f"days.{end}", group="time", unit="days", listed=False, evidence=STEP,
            about=f"{end} end of the run's 80 % interval, islands' learning at its {other} end",
            formula=f"days.value * step_time_s.{end} / {STEP_S}"
            f" * {SHIPPED}.value / {SHIPPED}.{other}",
            inputs=("days.value", f"step_time_s.{end}", STEP_S, f"{SHIPPED}.value",
                    f"{SHIPPED}.{other}"),
        )  # fmt: skip
    yield Entry(
        key="run_s", group="time", unit="s", about="the same in seconds", evidence=STEP,
        formula="tokens / global_batch_tokens * round_s / inner_steps"
        f" / (goodput * {SHIPPED}.value)",
        inputs=("tokens", "global_batch_tokens", "round_s", "inner_steps", "goodput",
                f"{SHIPPED}.value"),
        value=case.plan.run_s, listed=False,
    )  # fmt: skip
    inner, exposed = (float(np.asarray(x)) for x in (rounds.interval, rounds.exposed_s))
    yield Entry(
        key="round_s", group="time", unit="s", about="from one outer step to the next",
        evidence=STEP, formula=f"inner_steps * {STEP_S} + outer_wait_s", listed=False,
        inputs=("inner_steps", STEP_S, "outer_wait_s"),
        value=inner * case.plan.step_time_s.value + exposed,
    )  # fmt: skip
    for key, unit, about, value in (
        ("inner_steps", "steps", "steps between outer steps; 1 for one island", inner),
        ("outer_wait_s", "s", "of an outer step, what is not hidden", exposed),
    ):
        yield Entry(
            key=key, group="fleet", unit=unit, about=about, functions=(rounds_of,), listed=False,
            inputs=("islands", "parameters", STEP_S, "wan:port_bytes_per_s", "island_gpus"),
            value=value,
        )  # fmt: skip


def _failures(case: Case) -> Iterator[Entry]:
    yield Entry(
        key="mtbf_s", group="failures", unit="s", about="between failures anywhere",
        evidence=ESTIMATE, functions=(mean_time_between_failures_s,),
        formula="1 / (HAZARD_PER_GPU_S * gpus)",
        inputs=(f"const:{GOODPUT}HAZARD_PER_GPU_S", "gpus"),
    )  # fmt: skip
    quorum = (f"const:{FLEET}STALL_S", f"const:{FLEET}ABSENT_S")
    how: dict[str, tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]] = {
        "disk": ((restart_goodput,), (f"const:{GOODPUT}DISK",)),
        "peer": ((restart_goodput,), (f"const:{GOODPUT}PEER_MEMORY",)),
        "quorum": ((quorum_goodput,), ("world_gpus", *quorum)),
    }
    functions, inputs = how[case.plan.recovery]
    if case.plan.islands > 1:
        functions, inputs = (islands_goodput,), ("islands", "round_s", *inputs)
    yield Entry(
        key="goodput", group="failures", unit="share", evidence=ESTIMATE,
        about=f"of the time that makes progress, recovery: {case.plan.recovery}",
        functions=(goodput, *functions),
        inputs=("island_gpus", f"const:{GOODPUT}HAZARD_PER_GPU_S", *inputs),
    )  # fmt: skip
    for name in case.plan.goodput_by_policy:
        kind = next((k for k in ("disk", "peer") if k in name), "quorum")
        yield Entry(
            key=f"goodput_by_policy.{name}", group="failures", unit="share", evidence=ESTIMATE,
            about="were all GPUs in step", functions=how[kind][0], listed=False,
            inputs=("gpus", f"const:{GOODPUT}HAZARD_PER_GPU_S", *how[kind][1]),
        )  # fmt: skip
    yield Entry(
        key="risk", group="failures", unit="share", evidence=ESTIMATE,
        about="chance to run out of memory or a quarter late", functions=(risk_of,),
        inputs=("memory_bytes_per_gpu", "gpu:memory_bytes", "step_time_s.low", "step_time_s.high",
                *(f"const:crore.plan.economy.{n}" for n in ("MEMORY_ERROR", "LATE", "EIGHTY"))),
    )  # fmt: skip


def _learning(case: Case) -> Iterator[Entry]:
    laws = ("DATA_PARALLEL", "DILOCO", "JOINT", "LOSS_PER_COMPUTE", "MEASURED_PARAMETERS", "GUESS",
            "GUESS_AT")  # fmt: skip
    for end in SPREAD:
        yield Entry(
            key=f"{SHIPPED}.{end}", group="fleet", unit="ratio", evidence=ESTIMATE,
            about="progress per token of islands over one run in step", listed=end == "value",
            functions=(diloco_efficiency,), note=_measured() if case.plan.islands > 1 else "",
            inputs=("parameters", "islands", *(f"const:crore.cost.islands.{n}" for n in laws)),
        )  # fmt: skip


def _measured() -> str:
    """Return what crore measured itself, which is too small to be used."""
    rows = [row for row in load_measured_islands() if row.islands > 1]
    sizes = sorted(row.parameters for row in rows)
    return (
        f"on models of {sizes[0]:,} to {sizes[-1]:,} parameters crore measured "
        f"{min(row.low for row in rows):.2f} to {max(row.high for row in rows):.2f} with 2 to "
        f"{max(row.islands for row in rows)} islands: far too small to say more of this one"
    )


def _fleet(case: Case) -> Iterator[Entry]:
    plan = case.plan
    yield Entry(
        key="gpus", group="fleet", unit="GPUs", about="used",
        formula="layout.pp * layout.dp * layout.cp * layout.tp * islands",
        inputs=(*(f"layout.{axis}" for axis in ("pp", "dp", "cp", "tp")), "islands"),
    )  # fmt: skip
    yield Entry(
        key="spares", group="fleet", unit="GPUs", about="left over",
        formula="gpus_available - gpus", inputs=("gpus_available", "gpus"),
    )  # fmt: skip
    yield Entry(
        key="global_batch_tokens", group="fleet", unit="tokens", about="per optimizer step",
        formula="layout.dp * layout.micro_batch * layout.micro_batches * seq_len * islands",
        inputs=("layout.dp", "layout.micro_batch", "layout.micro_batches", "seq_len", "islands"),
        note=_derivation(case, "global batch"),
    )  # fmt: skip
    for key, whole, about in (("island", "islands", "of one island"),
                              ("world", "worlds", "of one torch.distributed world")):  # fmt: skip
        yield Entry(
            key=f"{key}_gpus", group="fleet", unit="GPUs", about=about, formula=f"gpus / {whole}",
            inputs=("gpus", whole), value=plan.gpus / getattr(plan, whole), listed=False,
        )  # fmt: skip
    for key, about in (
        ("worlds", "torch.distributed worlds in all islands"),
        ("islands", "joined by outer steps; one is in step everywhere"),
    ):
        yield Entry(
            key=key, group="fleet", unit="", about=about, kind="choice",
            inputs=("gpus_available",), note=_chosen(case, key),
        )  # fmt: skip
    yield from _outer(case) if plan.islands > 1 else ()


def _derivation(case: Case, start: str) -> str:
    return next((line for line in case.plan.question.derived if line.startswith(start)), "")


def _chosen(case: Case, key: str) -> str:
    pinned = case.plan.question.request.fix
    return "pinned by --fix" if key in pinned else "chosen by the search"


def _outer(case: Case) -> Iterator[Entry]:
    for name, unit, about, key in (
        ("interval", "steps", "inner steps between", "interval"),
        ("bits", "bits", "of an outer gradient", "outer_bits"),
    ):
        table = "INTERVALS" if name == "interval" else "OUTER_BITS"
        yield Entry(
            key=f"outer_step.{name}", group="fleet", unit=unit, about=about, kind="choice",
            functions=(rounds_of,), inputs=(STEP_S, f"const:{FLEET}{table}"),
            note=_chosen(case, key),
        )  # fmt: skip
    yield Entry(
        key="sent_bits", group="fleet", unit="bits", about="of an outer gradient, with its scale",
        functions=(sent_bits,),
        inputs=("outer_step.bits",
                *(f"const:crore.cost.islands.{name}" for name in ("SCALE_BITS", "BLOCK_VALUES"))),
        value=float(sent_bits(case.plan.rounds.bits)), listed=False,
    )  # fmt: skip
    yield Entry(
        key="outer_step.outer_s", group="fleet", unit="s", about="sending one outer gradient",
        evidence=ESTIMATE, functions=(outer_bytes, rounds_of),
        formula="2 * (islands - 1) / islands * parameters * sent_bits / 8"
        " / (port_bytes_per_s * island_gpus) + hop_latency_s",
        inputs=("islands", "parameters", "sent_bits", "wan:port_bytes_per_s", "island_gpus",
                "wan:hop_latency_s"),
    )  # fmt: skip
    yield Entry(
        key="outer_step.exposed_s", group="fleet", unit="s", about="of it, not hidden",
        evidence=ESTIMATE, functions=(rounds_of,),
        formula=f"max(outer_step.outer_s - outer_step.interval * {STEP_S}, 0)",
        inputs=("outer_step.outer_s", "outer_step.interval", STEP_S),
    )  # fmt: skip


def _economy(case: Case) -> Iterator[Entry]:
    q, economy = case.plan.question, case.plan.economy
    home = "home" in economy.usd_basis
    hosts = ("workstation_host_w",) if home else ("host_w", "network_w", "pue")
    watts = (
        "gpus", "gpu:tdp_w", *(f"economics:{name}" for name in hosts),
        *(f"const:crore.cost.power.{n}" for n in ("MESSAGE_SHARE", "IDLE_SHARE")),
        *(f"const:crore.plan.economy.{n}" for n in ("BUSY", "MESSAGES")),
    )  # fmt: skip
    yield Entry(
        key="economy.power_w", group="money and power", unit="W", about="at the meter",
        evidence=ESTIMATE, functions=(gpu_power_w, site_power_w, economy_of), inputs=watts,
        listed=False,
    )  # fmt: skip
    yield Entry(
        key="economy.energy_j", group="money and power", unit="J", about="of the whole run",
        evidence=STEP, functions=(energy_j,), formula="economy.power_w * run_s",
        inputs=("economy.power_w", "run_s"), listed=False,
    )  # fmt: skip
    functions, inputs = _prices(home, "rented" in economy.usd_basis, q.accelerator.name)
    for end in SPREAD:
        own = "" if end == "value" else f", every price at its {end} end"
        yield Entry(
            key=f"economy.usd_per_gpu_hour.{end}", group="money and power", unit="USD/GPU-hour",
            about=f"{economy.usd_basis}{own}", evidence=ESTIMATE, functions=functions,
            inputs=inputs, listed=end == "value", note=_whose(q.request.basis),
        )  # fmt: skip
        yield Entry(
            key=f"economy.usd.{end}", group="money and power", unit="USD", evidence=ESTIMATE,
            about=f"of the whole run{own}", listed=False,
            formula=f"gpus * run_s / 3600 * economy.usd_per_gpu_hour.{end}",
            inputs=("gpus", "run_s", f"economy.usd_per_gpu_hour.{end}"),
        )  # fmt: skip


def _whose(basis: str) -> str:
    if basis:
        return f"priced as {basis}: given by the user"
    return "priced as owned where a price is known, else as rented: the default"


def _prices(
    home: bool, rented: bool, gpu: str
) -> tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]:
    """Return what makes a GPU-hour's dollars: a card at home, a rental, or an owned fleet."""
    if rented:
        return (economy_of,), (f"rental:{gpu}",)
    card = ("card_years", "household_usd_per_kwh", "workstation_host_w")
    owned = ("it_all_in", "facility_usd_per_w", "cost_of_capital", "upkeep", "it_years",
             "facility_years", "electricity_usd_per_kwh", "host_w", "network_w", "pue")  # fmt: skip
    names = tuple(f"economics:{name}" for name in (card if home else owned))
    made: Callable[..., Any] = card_usd_per_gpu_hour if home else ownership_usd_per_gpu_hour
    functions = (made,) if home else (made, it_usd)
    return functions, ("gpu:price_usd", "gpu:tdp_w", *names)


_LIMITS: Final[dict[str, tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]]] = {
    "memory": ((), ("memory_bytes_per_gpu", "memory_capacity_bytes")),
    "critical batch": (
        (critical_batch, critical_batches),
        ("global_batch_tokens", "islands", "parameters", "active_parameters", "tokens",
         *(f"const:crore.cost.batch.{n}" for n in ("HOFFMANN", "KAPLAN", "DEEPSEEK", "STEP_LAW",
                                                   "BERGSMA"))),
    ),
    "global batch": ((), ("global_batch_tokens", STEP_S, "const:crore.plan.limits.BATCH_SAVES")),
    "data": ((data_epochs,), ("tokens", "const:crore.cost.readiness.STOCK_TOKENS",
                              "const:crore.plan.limits.EPOCHS")),
    "input bandwidth": ((input_bytes_per_s,), ("tokens_per_s", "gpus",
                        "const:crore.plan.limits.STORE_BYTES_PER_S_PER_GPU")),
    "checkpoint bandwidth": (
        (checkpoint_write_bytes_per_s, checkpoint_bytes),
        ("parameters", "islands", "mtbf_s", "gpus",
         "const:crore.plan.limits.STORE_BYTES_PER_S_PER_GPU"),
    ),
    "start-up": ((startup_s,), ("world_gpus", "mtbf_s", "const:crore.plan.limits.STARTUP_SHARE")),
    "latency wall": ((latency_floor_s,), ("model:layers", "layout.pp", STEP_S,
                                          "const:crore.plan.limits.LATENCY_SHARE")),
    "outer bandwidth": ((outer_bytes,), ("outer_step.outer_s", "outer_step.interval", STEP_S)),
}  # fmt: skip


def _limits(case: Case) -> Iterator[Entry]:
    for limit in case.plan.limits:
        functions, inputs = _LIMITS.get(limit.name, ((), ()))
        for side, about in (("value", "the plan's own"), ("limit", "up to which it does not bind")):
            binds = "binds" if limit.binds else "does not bind"
            yield Entry(
                key=f"limits.{limit.name}.{side}", group="limits", unit=limit.unit,
                about=f"{about}; {binds}", evidence=ESTIMATE, functions=(*functions, limits_of),
                inputs=inputs, note=limit.note, listed=side == "value" and limit.binds,
            )  # fmt: skip
