"""Plans on which planner and rehearsal must agree: each axis alone and composed, dense and experts.

Small shapes for the axes, published models for the shapes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from crore.catalog import load_catalog
from crore.model.split import Split
from crore.rehearse.fake import rehearse
from crore.rehearse.trace import Trace, Work

DENSE: dict[str, Any] = {
    "layers": 4, "hidden": 128, "heads": 8, "kv_heads": 4, "head_dim": 16, "ffn": 352, "vocab": 512,
}  # fmt: skip
UNTIED = DENSE | {"tied_embeddings": False}
DEEP = UNTIED | {"layers": 8}
EXPERTS = DENSE | {"experts": 8, "topk": 2, "moe_ffn": 96, "shared_ffn": 96}


class Case(NamedTuple):
    """A plan by its name."""

    name: str
    model: str
    """`dense`, `untied`, `deep`, `experts`, or of the catalogue."""
    split: dict[str, Any]
    seq_len: int = 128
    rounds: int = 2
    """Micro-batches of a rank."""

    def work(self) -> Work:
        """Return what is rehearsed."""
        shapes = {"dense": DENSE, "untied": UNTIED, "deep": DEEP, "experts": EXPERTS}
        own = self.model in shapes
        spec = load_catalog().model("nano-1m" if own else self.model)
        spec = replace(spec, **shapes[self.model]) if own else spec
        split = Split(**self.split)
        batch = self.rounds * split.dp * split.micro_batch
        return Work(spec=spec, split=split, seq_len=self.seq_len, global_batch=batch)


SP = {"sequence_parallel": True}
PLANS = (
    Case("one rank", "dense", {"micro_batch": 2}),
    Case("zero1", "dense", {"dp_shard": 4, "zero": 1}),
    Case("zero2", "dense", {"dp_shard": 4, "zero": 2}),
    Case("zero3", "dense", {"dp_shard": 4, "zero": 3}),
    Case("zero3 padded", "dense", {"dp_shard": 48, "zero": 3}),
    Case("hsdp", "dense", {"dp_replicate": 2, "dp_shard": 2}),
    Case("tp", "dense", {"tp": 4, "zero": 1}),
    Case("tp sequence", "dense", {"tp": 4, "zero": 1, **SP}),
    Case("cp", "dense", {"cp": 4}),
    Case("pp", "dense", {"pp": 4, "zero": 1}, rounds=4),
    Case("interleaved", "dense", {"pp": 2, "vpp": 2, "schedule": "interleaved", "zero": 1}),
    Case("interleaved shards", "deep", {"pp": 2, "vpp": 4, "dp_shard": 2, "tp": 2, "zero": 1,
                                        "schedule": "interleaved", "recompute": "full",
                                        "precision": "bf16", **SP}, rounds=8),
    Case("fp8", "dense", {"dp_shard": 2, "tp": 2, "precision": "fp8", **SP}),
    Case("fp8 recompute", "dense", {"dp_shard": 2, "precision": "fp8", "recompute": "full"}),
    Case("zero bubble", "untied", {"pp": 2, "schedule": "zb-v", "zero": 1}, rounds=4),
    Case("zero bubble bf16", "untied", {"dp_shard": 2, "pp": 2, "tp": 2, "schedule": "zb-v",
                                       "zero": 1, "precision": "bf16", **SP}, rounds=4),
    Case("composed", "dense", {"dp_shard": 2, "tp": 2, "pp": 2, **SP}, rounds=4),
    Case("composed bf16", "dense", {"dp_replicate": 2, "dp_shard": 2, "tp": 2, "pp": 2,
                                    "precision": "bf16", "zero": 2, **SP}, rounds=4),
    Case("full recompute", "dense", {"dp_shard": 2, "tp": 2, "recompute": "full", **SP}),
    Case("light recompute", "dense", {"dp_shard": 2, "recompute": "light"}),
    Case("selective recompute", "dense", {"dp_shard": 2, "recompute": "selective"}),
    Case("experts alone", "experts", {"dp_shard": 2}),
    Case("ep", "experts", {"dp_shard": 4, "ep": 4}),
    Case("ep of more", "experts", {"dp_shard": 4, "ep": 2}),
    Case("ep tp", "experts", {"dp_shard": 2, "tp": 2, "ep": 4, **SP}),
    Case("ep pp", "experts", {"dp_shard": 2, "pp": 2, "ep": 2, "zero": 2}, rounds=4),
    Case("llama", "llama-3.1-8b", {"dp_shard": 16, "tp": 4, "pp": 2, "precision": "bf16",
                                   "recompute": "full", **SP}, seq_len=1024),
    Case("mixtral", "mixtral-8x7b", {"dp_shard": 8, "ep": 8, "pp": 4, "zero": 2,
                                     "precision": "bf16"}, seq_len=512, rounds=4),
    Case("deepseek", "deepseek-v2-lite", {"dp_shard": 8, "ep": 8, "precision": "bf16"},
         seq_len=512),
    Case("baichuan", "baichuan-13b", {"dp_shard": 8, "tp": 4, **SP, "precision": "bf16"},
         seq_len=512),
)  # fmt: skip


@cache
def traced(name: str, rank: int) -> Trace:
    """Return the trace of a rank of a plan, made once for all tests that look at it."""
    return rehearse(next(case for case in PLANS if case.name == name).work(), rank)


def ends(split: Split) -> list[int]:
    """Return one rank of the first, a middle and the last pipeline rank."""
    each = split.ranks // split.pp
    return sorted({0, each * (split.pp // 2), split.ranks - each})
