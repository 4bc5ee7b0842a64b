"""Planner against count: what a rank sends, and the FLOPs it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.rehearse.plans import DENSE, EXPERTS, PLANS, SP, Case, ends, traced

from crore.catalog import load_catalog
from crore.catalog.types import MLA, ModelSpec
from crore.model.split import Split
from crore.rehearse.fake import rehearse
from crore.rehearse.messages import Message
from crore.rehearse.predicted import predicted_flops, predicted_messages
from crore.rehearse.trace import Trace, Work

FLOPS = 0.01
"""Largest miss of the planner's FLOPs."""
LONG = ("llama", "mixtral", "deepseek", "baichuan")
"""Plans of published models, each several seconds."""

GPT = {"bias": True, "norm": "layer", "position": "learned", "max_positions": 256,
       "gated_mlp": False, "kv_heads": 8, "tied_embeddings": False}  # fmt: skip
LATENT = {"mla": MLA(q_lora=0, kv_lora=64, qk_nope=16, qk_rope=8, v=16), "kv_heads": 8}
LOW = {"mla": MLA(q_lora=48, kv_lora=64, qk_nope=16, qk_rope=8, v=16), "kv_heads": 8}
AHEAD = EXPERTS | {"first_dense": 1, "layers": 5, "tied_embeddings": False}
MORE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "biases, positions, LayerNorm": (GPT, {"tp": 2, "dp_shard": 2, "precision": "bf16", **SP}),
    "biases without a sequence": (GPT, {"tp": 2, "zero": 1}),
    "norms of heads": ({"qk_norm": True}, {"tp": 2, "dp_shard": 2, "zero": 1, **SP}),
    "side by side": ({"parallel_block": True}, {"tp": 2, "zero": 1}),
    "latent": (LATENT, {"tp": 2, "zero": 1, "recompute": "selective", **SP}),
    "latent queries": (LOW, {"tp": 2, "zero": 1, "recompute": "full", **SP}),
    "latent, again by choice": (LOW, {"tp": 2, "recompute": "selective"}),
    "latent over context": (LOW, {"cp": 2, "zero": 1}),
    "few keys over context": ({"kv_heads": 2}, {"cp": 4, "zero": 2}),
    "context again": ({}, {"cp": 2, "zero": 2, "recompute": "full"}),
    "context, tensor, by choice": ({}, {"cp": 2, "tp": 2, "recompute": "selective", **SP}),
    "replicas alone": ({}, {"dp_replicate": 2, "zero": 3}),
    "replicas once": ({}, {"dp_replicate": 2, "dp_shard": 2, "tp": 2, "zero": 1,
                           "precision": "bf16", **SP}),
    "8 bits": ({"ffn": 704}, {"tp": 2, "precision": "fp8", **SP}),
    "uneven stages": ({"layers": 5, "tied_embeddings": False},
                      {"pp": 2, "dp_shard": 2, "dp_replicate": 2}),
    "gpipe": ({"layers": 5}, {"pp": 2, "dp_shard": 2, "schedule": "gpipe"}),
    "loops, sharded": ({"layers": 6}, {"pp": 2, "vpp": 2, "dp_shard": 2, "tp": 2,
                                       "schedule": "interleaved", "recompute": "full"}),
    "a V, untied": ({"layers": 6, "tied_embeddings": False},
                    {"pp": 2, "dp_shard": 2, "zero": 2, "schedule": "zb-v"}),
    "replicas of experts": (EXPERTS, {"dp_replicate": 2, "dp_shard": 4, "ep": 4}),
    "experts again": (EXPERTS, {"dp_shard": 4, "ep": 2, "tp": 2, "recompute": "full", **SP}),
    "experts, light": (EXPERTS, {"dp_shard": 4, "ep": 2, "recompute": "light",
                                 "precision": "bf16"}),
    "experts by choice": (EXPERTS | {"shared_ffn": 0}, {"dp_shard": 4, "ep": 2, "tp": 2,
                                                        "recompute": "selective", **SP}),
    "dense ahead, again": (AHEAD, {"dp_shard": 4, "ep": 2, "pp": 2, "recompute": "full"}),
    "dense ahead": (AHEAD, {"dp_shard": 4, "ep": 2, "pp": 2, "tp": 2, "zero": 1,
                            "precision": "bf16", **SP}),
    "context and experts": (EXPERTS, {"dp_shard": 2, "cp": 2, "ep": 4}),
    "rows that do not divide": (EXPERTS | {"experts": 24}, {"dp_shard": 4, "ep": 4}),
    "experts cut through": (EXPERTS | {"bias": True}, {"dp_shard": 16, "ep": 2}),
    "experts that no cut divides": (EXPERTS | {"moe_ffn": 100}, {"dp_shard": 16, "ep": 2}),
    "experts with biases": (EXPERTS | {"bias": True}, {"dp_shard": 4, "ep": 2}),
    "every second layer": (EXPERTS | {"moe_every": 2}, {"dp_shard": 4, "ep": 2}),
    "window": ({"window": 32}, {"dp_shard": 2}),
    "slopes, by choice": ({"position": "alibi"}, {"tp": 2, "zero": 1, "recompute": "selective"}),
}  # fmt: skip
"""What PLANS leave out: changes to the dense shape, and a split; four micro-batches, 128 tokens."""


def small(changes: dict[str, Any], split: dict[str, Any]) -> Work:
    spec: ModelSpec = replace(load_catalog().model("nano-1m"), **(DENSE | changes))
    cut = Split(**split)
    return Work(spec=spec, split=cut, seq_len=128, global_batch=4 * cut.dp)


def counted(messages: tuple[Message, ...]) -> Counter[tuple[str, str, int]]:
    """Return how often each message was sent, a send and a receive alike."""
    names = {"send": "p2p", "recv": "p2p"}
    return Counter((m.axis, names.get(m.collective, m.collective), m.bytes) for m in messages)


def agree(work: Work, trace_of: Callable[[int], Trace] | None = None) -> None:
    masked = work.spec.window or work.spec.position == "alibi"
    for rank in ends(work.split):
        trace = trace_of(rank) if trace_of else rehearse(work, rank)
        seen = counted(trace.messages)
        for cpu in (True, False):
            told = {(a, c, size): n for a, c, size, n in predicted_messages(work, rank, cpu=cpu)}
            assert told == seen, (rank, cpu)
            # A processor has no kernel for masks: a card's is not what was counted.
            if cpu or not masked:
                miss = predicted_flops(work, rank, cpu=cpu) / trace.flops - 1
                assert abs(miss) < FLOPS, (rank, cpu, miss)


@pytest.mark.parametrize("case", [c for c in PLANS if c.name not in LONG], ids=lambda c: c.name)
def test_messages_are_exact_and_flops_within_one_percent(case: Case) -> None:
    agree(case.work(), partial(traced, case.name))


@pytest.mark.drill
@pytest.mark.parametrize("case", [c for c in PLANS if c.name in LONG], ids=lambda c: c.name)
def test_so_they_are_for_published_models(case: Case) -> None:
    agree(case.work(), partial(traced, case.name))


@pytest.mark.drill
@pytest.mark.parametrize("name", MORE)
def test_so_they_are_for_every_kind_of_layer_and_mode(name: str) -> None:
    agree(small(*MORE[name]))
