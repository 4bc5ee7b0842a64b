"""A sheet of invented numbers in which every field of the page holds something, in every state."""

from __future__ import annotations

import math
from typing import Any

Sheet = dict[str, Any]
NASTY = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)
COUNTS = sorted({max(1, round(10 ** (i / 10))) for i in range(71)})
CAPACITY = 80e9


def table(caption: str, rows: list[list[str]]) -> Sheet:
    """Return a table with a head as wide as its rows."""
    return {"caption": caption, "head": ["what", *["value"] * (len(rows[0]) - 1)], "rows": rows}


def log_axis(label: str, low: int, high: int, unit: str = "") -> Sheet:
    """Return a logarithmic axis from 10**low to 10**high with a tick a decade."""
    ticks = [[10.0**k, f"{10.0**k:g}{unit}"] for k in range(low, high + 1)]
    return {"label": label, "scale": "log", "domain": [10.0**low, 10.0**high], "ticks": ticks}


def linear_axis(label: str, high: float, unit: str = "", low: float = 0.0, count: int = 4) -> Sheet:
    """Return a linear axis with `count` + 1 ticks."""
    values = [low + (high - low) * k / count for k in range(count + 1)]
    return {
        "label": label, "scale": "linear", "domain": [low, high],
        "ticks": [[value, f"{value:g}{unit}"] for value in values],
    }  # fmt: skip


def fact(key: str, value: str, evidence: str, span: str = "") -> list[str]:
    """Return a headline number."""
    return [key, value, span, evidence, f"why {key} is what it is"]


def state_of(gpus: int) -> str:
    """Return a state per decade: none at the very bottom, short, fits, idle above a million."""
    if gpus == 1:
        return "none"
    return "short" if gpus < 8 else "fits" if gpus <= 1_000_000 else "idle"


def memory(gpus: int, state: str) -> Sheet | None:
    """Return a memory bar whose parts end at the capacity."""
    if state == "none":
        return None
    ends = {"capacity": CAPACITY, "capacity_text": "80 GB", "usable": 72e9, "usable_text": "72 GB"}
    if state == "short":
        needed = 700e9 / gpus
        return {**ends, "used": needed, "used_text": f"{needed / 1e9:.0f} GB", "parts": []}
    sizes = [12e9, 24e9, 20e9 / math.log10(gpus + 10)]
    used = sum(sizes)
    sizes.append(CAPACITY - used)
    parts = [
        [i, size, f"{size / 1e9:.1f} GB", f"{size / CAPACITY:.0%}"] for i, size in enumerate(sizes)
    ]
    return {**ends, "used": used, "used_text": f"{used / 1e9:.1f} GB", "parts": parts}


def tier(name: str, size: int, gpus: int, rate: str, axes: str) -> Sheet:
    """Return a row of the fabric."""
    return {
        "tier": name, "size_text": f"{size:,}", "count_text": f"{max(gpus // size, 1):,}",
        "rate_text": rate, "axes": axes, "note": "",
    }  # fmt: skip


def point(gpus: int) -> Sheet:
    """Return one count of the grid."""
    state, held = state_of(gpus), memory(gpus, state_of(gpus))
    planned = state in ("fits", "idle")
    used = min(gpus, 1_000_000) if planned else 0
    bubble = math.log10(gpus) / 20
    head = "FITS" if planned else "DOES NOT FIT" if state == "short" else "NO PLAN"
    days = 4e5 / used * 30 if planned else 0.0
    return {
        "gpus": gpus, "gpus_text": f"{gpus:,}", "aria": f"{gpus:,} GPUs", "state": state,
        "verdict": f"{head}  {held['used_text'] if held else 'memory unknown'} a GPU",
        "reason": "" if planned else "the rule of the small sheet", "used": used,
        "used_text": f"{used:,}",
        "facts": [
            fact("days", f"{days:.3g} d", "fitted" if gpus < 10_000 else "extrapolated",
                 f"{days / 2:.3g} d to {days * 2:.3g} d"),
            fact("usd", f"${gpus:,}", "estimate"),
            fact("co2", "unknown", "unknown"),
        ] if planned else [],
        "limit": "the spine" if planned else "", "layout": "tp 8, dp 4" if planned else "",
        "news": ["tensor parallelism"] if gpus > 10 else [],
        "change": [] if planned else ["more GPUs"],
        "memory": held,
        "step": {"text": "11.6 s", "parts": [
            [0, 0.9 - bubble, "10 s", f"{0.9 - bubble:.1%}"],
            [1, 0.1 + bubble, "1.6 s", f"{0.1 + bubble:.1%}"],
        ]} if planned else None,
        "goodput": {"plan": 0.98 - bubble / 2, "disk": max(0.9 - bubble * 2, 0.02)}
        if planned else {},
        "goodput_band": [0.9 - bubble / 2, 0.99] if planned else None,
        "days": [days / 2, days, days * 2] if planned else None,
        "usd": [gpus * 0.8, float(gpus), gpus * 1.5] if planned else None,
        "power_w": [gpus * 800.0, gpus * 1000.0, gpus * 1200.0] if planned else None,
        "ready": [2027.0, 2028.5, 2031.0 if gpus < 1_000_000 else None] if planned else None,
        "fabric": [
            tier("GPU", 1, gpus, "3.35 TB/s", ""), tier("server", 8, gpus, "450 GB/s", "tp"),
            tier("world", gpus, gpus, "unknown", "dp"),
        ] if planned else [],
        "drivers": [f"{days:.3g} d", "tp 8, dp 4"] if planned else [],
    }  # fmt: skip


def axes() -> Sheet:
    """Return every axis of the sheet."""
    return {
        "gpus": log_axis("GPUs", 0, 7), "memory": linear_axis("memory", 100e9),
        "share": linear_axis("share of the step", 1.0), "goodput": linear_axis("goodput", 1.0),
        "days": log_axis("days to train", 0, 7), "usd": log_axis("cost", 0, 7, " USD"),
        "year": linear_axis("year", 2036.0, low=2026.0, count=5),
        "delivered": log_axis("GPUs delivered", 5, 8), "power": log_axis("power", 3, 10, " W"),
    }  # fmt: skip


def timeline() -> Sheet:
    """Return one step of two stages."""
    return {
        "title": "One step", "tracks": ["first stage", "last stage"], "note": "of 16 GPUs",
        "bars": [[0, 0.0, 4.0, "forward"], [1, 4.0, 8.0, "forward"],
                 [1, 8.0, 9.0, "message"], [0, 9.0, 11.0, "message"]],
        "kinds": [["forward", "forward"], ["message", "messages"]],
        "axis": linear_axis("s", 12.0),
        "table": table("bars", [["forward", "4"], ["message", "1"]]),
    }  # fmt: skip


def run() -> Sheet:
    """Return what a run left."""
    return {
        "facts": [fact("loss", "2.31", "measured")],
        "plots": [{
            "key": "loss", "title": "Loss", "x": linear_axis("step", 100.0),
            "y": linear_axis("loss", 8.0), "marks": [[40, "a process died"]],
            "series": [
                {"label": "train", "points": [[k, 8 - k / 20] for k in range(0, 101, 5)]},
                {"label": "held out", "points": [[50, 6.0], [100, 3.2]]},
            ],
            "table": table("loss", [["0", "8"], ["100", "3"]]),
        }],
        "checks": table("predicted and measured", [["step", "1.1 s", "1.2 s"]]),
        "events": table("out of the ordinary", [["40", "a process died"]]),
    }  # fmt: skip


def small_sheet(title: str = "A small sheet", **changes: Any) -> Sheet:
    """Return the whole sheet; `changes` replace its keys."""
    points = [point(gpus) for gpus in COUNTS]
    positions = [COUNTS.index(max(1, round(10 ** (i / 10)))) for i in range(71)]
    days = [[p["gpus_text"], p["facts"][0][1] if p["facts"] else "no plan"] for p in points]
    return {
        "schema": "crore.report/1", "crore": "0.0", "command": "crore report small", "kind": "run",
        "constants_sha256": "5eed", "title": title, "note": "invented numbers", "source": "a test",
        "summary": ["FITS on 16 GPUs, in words."],
        "scenario": {"model": "small", "gpu": "h100-sxm", "gpus": "16", "tokens": "1T"},
        "own": COUNTS.index(16), "positions": positions, "points": points,
        "axes": axes(), "timeline": timeline(), "run": run(),
        "parts": {
            "memory": [
                ["weights", "weights", "learned"], ["optimizer", "optimizer", "its moments"],
                ["activations", "activations", "kept"], ["free", "free", "left"],
            ],
            "step": [["compute", "compute", "matmuls"], ["bubble", "bubble", "waiting"]],
        },
        "facts": {"days": "time to train", "usd": "cost of the run", "co2": "CO2", "loss": "loss"},
        "drivers": ["time to train", "layout"],
        "lines": {
            "goodput": [["plan", "as planned"], ["disk", "restart from disk"]],
            "band": "shade: three times the failures", "power": ["on average", "peak"],
            "peaks": [[p["gpus"], p["gpus"] * 1300.0]
                      for p in points if p["power_w"]],
            "beyond": [[10_000, 10_000_000]], "beyond_word": "extrapolated",
            "beyond_text": "hatched: extrapolated (10,000 to 10,000,000 GPUs)",
        },
        "supply": {
            "title": "GPUs delivered", "source": "a test", "about": "As invented",
            "curve": [[2026.0 + k, 2e5 * 1.3**k, 3e5 * 1.4**k, 4e5 * 1.5**k] for k in range(11)],
            "table": table("delivered", [["2026", "300,000"], ["2036", "8,676,395"]]),
        },
        "assumptions": table("what was assumed", [["MFU", "0.4", "a source"]]),
        "not_modelled": ["the weather"],
        "launch": [{"name": "run.sh", "text": "torchrun train.py", "command": "crore launch"}],
        "reproduce": [["command", "crore report small"]],
        "presets": [["16 GPUs", "s=1;gpus=16"], ["1M", "s=1;gpus=1000000"]],
        "words": [["world", "GPUs that step together"]],
        "compare_note": "Pin up to four.", "range_note": "Ranges hold 80 % of cases.", "live": None,
        "tables": {"goodput": table("goodput", days), "pareto": table("time and cost", days)},
    } | changes  # fmt: skip
