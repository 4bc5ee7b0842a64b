"""What crore's trainer computes again before a backward pass, product by product.

Full recompute runs a layer anew until torch has what was asked for, which is before its last
product. Selective recompute keeps every second product in the order they run, attention, and what
was received; the grouped products of experts it redoes. Light keeps all products.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.layout import SELECTIVE
from crore.cost.operations import Operation
from crore.cost.step_layers import masked

LAST: Final = ("feed-forward down", "shared experts down")
"""Products at the end of a layer: their inputs are kept, their outputs nobody asks for again."""


def redone(job: Job, op: Operation) -> Num:
    """Return the share of an operation's executions that crore's trainer runs again."""
    if op.kind not in ("gemm", "attention", "collective"):
        return job.redo_share(op)
    share = job.redo_layer
    if op.name in LAST:  # an 8-bit product keeps its inputs when it is done, so it is run again
        share = share * np.equal(job.machine.narrow, 1)
    selective = np.equal(job.layout.recompute, SELECTIVE)
    if op.kind != "collective" and present(selective):
        share = share + selective * _odd(job, op)
    return share


def _odd(job: Job, op: Operation) -> Num:
    """Return the share of a product's FLOPs that stand at odd places of their layer.

    Attention has four products, or five where queries are compressed (and two more, one of them at
    an odd place, where a processor has no kernel for its mask), so what follows it shifts by one.
    """
    if op.kind == "attention":
        return 0.5 * job.eager * masked(job)
    s = job.shape
    low = s.mla * np.greater(s.q_lora, 0)
    key, query = s.kv_heads * s.head_dim, (1 + s.query_gate) * s.heads * s.head_dim
    shares: dict[str, Num] = {
        "query": 1.0, "value": 1.0, "qkv": (query + key) / np.maximum(query + 2 * key, 1.0),
        "mla down": low, "mla query up": 1 - low, "mla key-value up": 1 - low,
        "attention output": low, "router": 1 - low, "experts up": 1.0, "experts down": 1.0,
        "feed-forward gate": 1 - low, "feed-forward up": _up(job, 1 - low),
        "shared experts gate": low, "shared experts up": _up(job, low),
    }  # fmt: skip
    return shares.get(op.name, 0.0)


def _up(job: Job, first: Num) -> Num:
    """Return the share for the up-projection where a feed-forward's `first` product has that one.

    A gated one is listed as two products on a processor, elsewhere as one that is half gate.
    """
    gated = np.equal(job.shape.matrices, 3) * 1.0
    after = job.eager * (1 - first) + (1 - job.eager) * 0.5
    return gated * after + (1 - gated) * first
