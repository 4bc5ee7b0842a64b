"""Accelerator rows: figures in a data sheet's units, converted here and nowhere else to SI."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from crore.catalog.calibration import Calibration, Products, measured_by
from crore.catalog.rows import Row, check_keys, number, read_provenance, whole, words
from crore.catalog.types import Accelerator, Provenance
from crore.errors import InputError, shown

THIS_MACHINE = "this-machine"
"""The row that `crore calibrate` fills in."""
FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4")
_PEAK = {f"{fmt}_tflops": fmt for fmt in FORMATS}
_MATMUL = {f"matmul_{fmt}_tflops": fmt for fmt in FORMATS}
_CAPACITY: Mapping[str, float] = {"memory_gb": 1e9, "memory_gib": 2.0**30, "memory_mib": 2.0**20}
ACCELERATOR_KEYS = (
    "title",
    "year",
    *_PEAK,
    *_MATMUL,
    *_CAPACITY,
    "memory_tb_per_s",
    "sms",
    "node_size",
    "domain_size",
    "domain_gb_per_s",
    "nic_gbit_per_s",
    "host_gb_per_s",
    "tdp_w",
    "price_usd",
    "asynchronous",
    "cpu",
)


def build_accelerator(name: str, row: Row) -> Accelerator:
    """Return the accelerator a row describes, in SI units.

    Peaks are dense rates with FP32 accumulation. Memory is given in exactly one unit: `memory_mib`
    (what the driver reports), `memory_gib` or `memory_gb`. InputError when a figure is missing,
    misspelt or contradicts another.
    """
    label = f"GPU {shown(name)}"
    check_keys(label, row, ACCELERATOR_KEYS)
    provenance = read_provenance(label, row)
    peak = _rates(label, row, _PEAK)
    if not peak:
        raise InputError(f"{label} needs a peak rate: one of {', '.join(_PEAK)}")
    domain_size = whole(label, row, "domain_size", 1, least=1)
    domain_bytes_per_s = number(label, row, "domain_gb_per_s", 0.0) * 1e9
    if (domain_size > 1) != (domain_bytes_per_s > 0):
        raise InputError(
            f"{label}: domain_size {domain_size} with domain_gb_per_s "
            f"{domain_bytes_per_s / 1e9:g}; a scale-up domain needs both"
        )
    return Accelerator(
        name=name,
        title=words(label, row, "title", name),
        year=whole(label, row, "year", 0),
        peak_flops=peak,
        matmul_flops=_rates(label, row, _MATMUL),
        memory_bytes=_capacity(label, row),
        memory_bytes_per_s=number(label, row, "memory_tb_per_s", positive=True) * 1e12,
        sms=whole(label, row, "sms", 0),
        node_size=whole(label, row, "node_size", 1, least=1),
        domain_size=domain_size,
        domain_bytes_per_s=domain_bytes_per_s,
        nic_bytes_per_s=number(label, row, "nic_gbit_per_s", 0.0) * 1e9 / 8,
        host_bytes_per_s=number(label, row, "host_gb_per_s", positive=True) * 1e9,
        tdp_w=number(label, row, "tdp_w", 0.0),
        price_usd=number(label, row, "price_usd", 0.0),
        asynchronous=bool(row.get("asynchronous", False)),
        cpu=bool(row.get("cpu", False)),
        provenance=provenance,
    )


def calibrated(row: Accelerator, found: Calibration, processes: int = 1) -> Accelerator:
    """Return this machine as one of so many processes sees it, with everything measured in it.

    Processes of a CPU share its memory and cores; each of a card has its own. The best product is
    the peak, a pass over cold memory the bandwidth.
    """
    measured = measured_by(found, processes)
    setting, share = measured.setting, processes if found.device == "cpu" else 1
    rates = {
        name: best_product(table) / measured.crowding for name, table in setting.products.items()
    }
    passes = setting.passes["map"]
    moved = 3 * passes.size[-2] / passes.cold_s[-2]
    return replace(
        row, title=found.name, year=int(found.date[:4]), peak_flops=rates, matmul_flops=rates,
        memory_bytes=found.memory_bytes / share, memory_bytes_per_s=moved / measured.crowding,
        sms=max(found.cores // share, 1), node_size=max(found.cores, processes),
        cpu=found.device == "cpu", measured=measured, tdp_w=0.0,
        provenance=Provenance(
            source=f"crore calibrate, torch {found.torch}", date=found.date[:10], verified=True
        ),
    )  # fmt: skip


def divided(row: Accelerator, processes: int) -> Accelerator:
    """Return one of the equal parts of a CPU that so many processes share."""
    return replace(
        row, peak_flops={name: rate / processes for name, rate in row.peak_flops.items()},
        memory_bytes=row.memory_bytes / processes, node_size=max(row.node_size, processes),
        memory_bytes_per_s=row.memory_bytes_per_s / processes,
    )  # fmt: skip


def best_product(table: Products) -> float:
    """Return the highest rate in FLOP/s of any product of a table."""
    points = itertools.product(table.m, table.n, table.k)
    work = [2 * m * n * k for m, n, k in points]
    columns = (table.forward_s, table.input_s, table.weight_s)
    return max(w / s for column in columns for w, s in zip(work, column, strict=True))


def _rates(label: str, row: Row, columns: Mapping[str, str]) -> dict[str, float]:
    """Return format -> FLOP/s for the columns (in TFLOP/s) that the row has."""
    given = {key: fmt for key, fmt in columns.items() if key in row}
    return {fmt: number(label, row, key, positive=True) * 1e12 for key, fmt in given.items()}


def _capacity(label: str, row: Row) -> float:
    """Return the memory in bytes from the one unit the row uses."""
    units = [unit for unit in _CAPACITY if unit in row]
    if len(units) != 1:
        raise InputError(f"{label} gives memory in exactly one of {', '.join(_CAPACITY)}")
    return number(label, row, units[0], positive=True) * _CAPACITY[units[0]]
