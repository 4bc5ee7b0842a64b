"""A rehearsal as text for a terminal, and as the record of `rehearsal.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from crore.rehearse.above import outer_sent_bytes, state_sent_bytes
from crore.rehearse.around import WORLDS
from crore.rehearse.compare import Row
from crore.rehearse.joining import Round
from crore.rehearse.messages import Message
from crore.rehearse.rehearsal import Rehearsal
from crore.rehearse.trace import Trace
from crore.units import format_bytes, format_int, format_si, three_digits

SCHEMA_VERSION: Final = 1
UNMEASURED: Final = (
    "kernels of a CPU were traced: RMSNorm keeps x/rms, where CUDA's fused one keeps less",
    "what kernels take for themselves and free again (workspaces) is not seen",
    "time is not rehearsed: no message was sent, no product computed",
)
"""Where the counts are not those of a card."""


def record(done: Rehearsal) -> dict[str, Any]:
    """Return the body of rehearsal.json."""
    return {
        "model": done.work.spec.name, "gpus": done.fleet.gpus, "gpu": done.gpu,
        "fleet": asdict(done.fleet), "place": asdict(done.place),
        "above": _above(done),
        "split": asdict(done.work.split), "seq_len": done.work.seq_len,
        "global_batch": done.work.global_batch, "interrupted": done.interrupted,
        "agrees": done.agrees, "findings": [asdict(f) for f in done.findings],
        "untraced_pipeline_ranks": done.untraced, "unmeasured": list(UNMEASURED),
        "ranks": [_rank(done, trace) for trace in done.traces],
    }  # fmt: skip


def _above(done: Rehearsal) -> dict[str, Any]:
    """Return whom the GPU meets above its world, and what they send each other."""
    first = done.traces[0] if done.traces else None
    return {
        "quorum_gpus": list(done.fleet.quorum(done.place)),
        "outer_gpus": list(done.fleet.outer(done.place)),
        "quorum_bytes_per_step": sum(_over_worlds(first)) if first else 0,
        "outer_bytes_per_round": outer_sent_bytes(done.work, first) if first else 0,
        "state_bytes_per_round": state_sent_bytes(first) if first else 0,
    }


def _over_worlds(trace: Trace) -> list[int]:
    return [m.bytes for m in trace.messages if m.axis == WORLDS]


def _rank(done: Rehearsal, trace: Trace) -> dict[str, Any]:
    return {
        "rank": trace.rank, "stages": list(trace.stages), "parameters": trace.parameters,
        "flops": trace.flops, "operations": trace.operations, "peak_bytes": trace.peak_bytes,
        "needed_bytes": done.needed_bytes[trace.rank],
        "peak_kinds_bytes": trace.peak_kinds, "kept_bytes": trace.kept_bytes,
        "messages": _alike((*trace.messages, *(trace.round.messages if trace.round else ()))),
        "round": _round(trace.round) if trace.round else None,
        "compared": [_row(row) for row in done.rows[trace.rank]],
    }  # fmt: skip


def _round(joining: Round) -> dict[str, Any]:
    return {"state_bytes": joining.state_bytes, "peak_bytes": joining.peak_bytes}


def _alike(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages, alike ones together."""
    kinds = Counter((m.axis, m.sort, m.ranks, m.bytes, m.phase) for m in messages)
    return [
        {"axis": axis, "collective": what, "ranks": ranks, "bytes": size, "phase": phase,
         "count": count}
        for (axis, what, ranks, size, phase), count in sorted(kinds.items())
    ]  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    error = row.error
    return {**asdict(row), "error": error if abs(error) != float("inf") else None}


def render(done: Rehearsal) -> str:
    """Return what a terminal shows: the verdict, where the GPU stands, the table, the findings."""
    return "\n".join(_lines(done))


def _lines(done: Rehearsal) -> Iterator[str]:
    split, fleet, place = done.work.split, done.fleet, done.place
    yield _verdict(done)
    yield f"{done.work.spec.name}, {split.words()}, {split.precision}, recompute {split.recompute}"
    yield ""
    yield (
        f"GPU {done.gpu:,} of {fleet.gpus:,} is rank {place.rank:,} of {fleet.ranks:,} in world "
        f"{place.world + 1:,} of {fleet.worlds_of(place.island):,} on island {place.island + 1:,} "
        f"of {fleet.islands:,}"
    )
    yield from _meetings(done)
    for trace in done.traces[:1]:
        yield ""
        yield from _table(done, trace)
    others = [trace for trace in done.traces[1:] if not all(r.same for r in done.rows[trace.rank])]
    for trace in others:
        yield ""
        yield from _table(done, trace, only_wrong=True)
    yield ""
    yield from _agreement(done)
    yield from (f"unmeasured  {line}" for line in UNMEASURED)


def _meetings(done: Rehearsal) -> Iterator[str]:
    above = _above(done)
    quorum, outer = above["quorum_gpus"], above["outer_gpus"]
    if done.traces and len(quorum) > 1:
        sizes = _over_worlds(done.traces[0])
        yield (
            f"quorum group of {len(quorum):,} GPUs, {quorum[0]:,} to {quorum[-1]:,}: "
            f"{_size(sum(sizes))} a step in {len(sizes):,} messages"
        )
    if done.traces and len(outer) > 1:
        again = above["state_bytes_per_round"]
        rest = f", then {_size(again)} in its island" if again else ""
        yield (
            f"outer group of {len(outer):,} GPUs, {outer[0]:,} to {outer[-1]:,}: "
            f"{_size(above['outer_bytes_per_round'])} sent a round{rest}"
        )


def _size(value: float) -> str:
    return format_bytes(float(value))


def _verdict(done: Rehearsal) -> str:
    ranks = len(done.traces)
    traced = f"{ranks} rank{'s' if ranks != 1 else ''} traced"
    if done.interrupted:
        return f"PARTIAL  {traced}, then interrupted"
    if done.findings:
        return f"REFUSED  {done.findings[0].text}"
    wrong = sum(not row.same for rows in done.rows.values() for row in rows)
    if wrong:
        return f"DIFFERS  {traced}; {wrong} numbers are not what the plan says"
    return f"AGREES  {traced}; every number is what the plan says"


def _table(done: Rehearsal, trace: Trace, *, only_wrong: bool = False) -> Iterator[str]:
    yield f"rank {trace.rank:<20,}{'predicted':>14}{'counted':>14}{'error':>10}"
    for row in done.rows[trace.rank]:
        if row.same and only_wrong:
            continue
        mark = "" if row.same else f"  over {_share(row.tolerance)}"
        name = f"{row.what} {row.unit}" if row.unit == "messages" else row.what
        yield (
            f"  {name:<23}{_value(row, row.predicted):>14}{_value(row, row.counted):>14}"
            f"{_error(row):>10}{mark}"
        )
    if not only_wrong:
        have = _size(done.plan["memory_capacity_bytes"])
        room = f"{_size(done.needed_bytes[trace.rank])} of {have}"
        yield f"  on the card, by its kernels, with context and fragmentation {room}"
        if trace.round is not None:
            yield (
                f"  in the host's memory, per GPU, {_size(trace.round.state_bytes)} outer state; "
                f"while the islands join {_size(trace.round.peak_bytes)}"
            )


def _value(row: Row, value: float) -> str:
    if row.unit == "messages":
        return format_int(value)
    return format_bytes(value) if row.unit == "bytes" else format_si(value, "FLOP")


def _error(row: Row) -> str:
    if row.tolerance == 0:
        return "exact" if row.same else "differs"
    return _share(row.error, sign="+")


def _share(value: float, sign: str = "") -> str:
    return f"{value * 100:{sign}.1f} %" if abs(value) < 10 else f"x{three_digits(value + 1)}"


def _agreement(done: Rehearsal) -> Iterator[str]:
    ranks = ", ".join(f"{trace.rank:,}" for trace in done.traces)
    if len(done.traces) > 1:
        said = "agree: each send has its receive, each group one order"
        hung = any(f.kind != "memory" for f in done.findings)
        yield f"agreement   ranks {ranks} {'DO NOT AGREE' if hung else said}"
    yield from (f"{finding.kind:<12}{finding.text}" for finding in done.findings)
    if done.untraced:
        yield f"not traced  {len(done.untraced)} of {done.work.split.pp} pipeline ranks"
