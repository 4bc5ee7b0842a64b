"""Each combination that cannot run is refused by its own rule, in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.model.shapes import ALIBI, DENSE, GPT, LATENT, MIXTURE, WINDOWED

from crore.catalog import load_catalog
from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.refuse import check_runnable
from crore.model.split import Split

RING: dict[str, Any] = {"ring": True, "device": "cuda"}
# What is asked -> (words of the reason, model, split, what else is asked).
REFUSED: dict[str, tuple[str, ModelSpec, Split, dict[str, Any]]] = {
    "a batch that does not divide": ("is no multiple of 3", DENSE, Split(dp_shard=3), {}),
    "heads": ("tp 8 does not divide 4 heads", DENSE, Split(tp=8), {}),
    "key-value heads": ("tp 4 does not divide 2 key-value heads", DENSE, Split(tp=4), {}),
    "feed-forward": ("tp 2 does not divide the feed-forward width 49",
                     replace(DENSE, ffn=49), Split(tp=2), {}),
    "shared experts": ("tp 2 does not divide shared experts 33 wide",
                       replace(MIXTURE, shared_ffn=33), Split(tp=2, sequence_parallel=True), {}),
    "vocabulary": ("tp 2 does not divide the vocabulary of 65", replace(DENSE, vocab=65),
                   Split(tp=2), {}),
    "heads of a rank": ("cp 4 does not divide 2 heads of a rank", DENSE, Split(tp=2, cp=4), {}),
    "tokens over cp": ("cp 4 does not divide 30 tokens", DENSE, Split(cp=4), {"seq_len": 30}),
    "tokens over tp": ("tp 2 does not divide 15 tokens of a sequence", DENSE,
                       Split(tp=2, cp=2, sequence_parallel=True), {"seq_len": 30}),
    "stages": ("4 stages, 2 layers", DENSE, Split(pp=4), {}),
    "experts over ranks": ("ep 4 does not divide 6", MIXTURE, Split(dp_shard=4, ep=4), {}),
    "no experts": ("ep without experts", DENSE, Split(dp_shard=2, ep=2), {}),
    "more experts' ranks than a replica has": ("ep 3 does not divide 2 ranks of a replica",
                                               MIXTURE, Split(dp_shard=2, ep=3), {}),
    "tensor parallelism inside an expert": ("etp 1", MIXTURE, Split(etp=2), {}),
    "an unknown schedule": ("crore runs gpipe, 1f1b", DENSE,
                            Split(pp=2, schedule="dualpipe"), {}),
    "chunks under a schedule of one": ("runs one chunk per rank, not 2; use interleaved", WINDOWED,
                                       Split(pp=2, vpp=2), {}),
    "odd rounds of an interleaved one": ("micro-batches in multiples of 2, not 3", WINDOWED,
                                         Split(pp=2, vpp=2, schedule="interleaved"),
                                         {"global_batch": 3}),
    "an idle pipeline": ("1 micro-batches leave 2 stages idle", DENSE, Split(pp=2),
                         {"global_batch": 1}),
    "tokens routed twice": ("need sequence parallelism", MIXTURE, Split(tp=2), {}),
    "a mixture beside its attention": ("parallel block with tp",
                                       replace(MIXTURE, parallel_block=True),
                                       Split(tp=2, sequence_parallel=True), {}),
    "a tied table on both ends of a V": ("a tied table would be two",
                                         replace(WINDOWED, tied_embeddings=True),
                                         Split(pp=2, schedule="zb-v"), {}),
    "zero 3 under a V": ("use zero 2", WINDOWED, Split(pp=2, dp_shard=2, schedule="zb-v"), {}),
    "16 bits under a V": ("use zero 2", WINDOWED,
                          Split(pp=2, schedule="zb-v", precision="bf16"), {}),
    "choosing recompute under a V": ("recompute none", WINDOWED,
                                     Split(pp=2, schedule="zb-v", recompute="light"), {}),
    "compiling tp with full recompute": ("recompute light", DENSE, Split(tp=2, recompute="full"),
                                         {"compiled": True}),
    "compiling tp with replicas": ("not yet checked", DENSE, Split(dp_replicate=2, tp=2),
                                   {"compiled": True}),
    "compiling messages between experts": ("cut by ep", MIXTURE, Split(dp_shard=2, ep=2),
                                           {"compiled": True}),
    "compiling a V": ("leave --compile out", WINDOWED, Split(pp=2, schedule="zb-v"),
                      {"compiled": True}),
    "an unknown precision": ("crore trains in fp32, bf16, fp8", DENSE, Split(precision="fp4"), {}),
    "odd tokens in 8 bits": ("fp8 takes tokens by 16, a pass of a rank has 24", DENSE,
                             Split(precision="fp8"), {"seq_len": 24}),
    "further predictions over tp": ("leave --mtp out", DENSE, Split(tp=2), {"mtp": True}),
    "a ring of CPUs": ("no ring attention for a CPU", DENSE, Split(cp=2), {"ring": True}),
    "a ring with windows": ("no mask but the causal one", WINDOWED, Split(cp=2), RING),
    "a ring with slopes": ("no mask but the causal one", ALIBI, Split(cp=2), RING),
    "a model that is not built": ("Mamba-2", load_catalog().model("nemotron-h-56b"), Split(), {}),
}  # fmt: skip
RUNNABLE: dict[str, tuple[ModelSpec, Split, dict[str, Any]]] = {
    "one rank": (DENSE, Split(), {}),
    "every axis": (MIXTURE, Split(pp=2, dp_replicate=2, dp_shard=2, cp=2, tp=2, ep=2,
                                  sequence_parallel=True), {}),
    "latent heads, cut where key-value heads are none": (LATENT, Split(tp=4), {}),
    "fewer micro-batches than stages, interleaved": (
        WINDOWED, Split(pp=2, vpp=2, schedule="interleaved"), {"global_batch": 2}),
    "one micro-batch through GPipe": (DENSE, Split(pp=2, schedule="gpipe"), {"global_batch": 1}),
    "a V under zero 2": (WINDOWED, Split(pp=2, dp_shard=2, schedule="zb-v", zero=2), {}),
    "a schedule without a pipeline": (GPT, Split(schedule="none", vpp=2), {}),
    "8 bits": (DENSE, Split(precision="fp8"), {}),
    "a ring on CUDA": (DENSE, Split(cp=2), RING),
    "further predictions over dp": (DENSE, Split(dp_shard=2), {"mtp": True}),
    "compiling with tp": (DENSE, Split(tp=2), {"compiled": True}),
    "compiling tp beside another axis": (DENSE, Split(dp_shard=2, tp=2), {"compiled": True}),
    "compiling with tp and light recompute": (DENSE, Split(tp=2, recompute="light"),
                                              {"compiled": True}),
    "full recompute without tp, compiled": (DENSE, Split(dp_shard=2, recompute="full"),
                                            {"compiled": True}),
}  # fmt: skip
ASKED: dict[str, Any] = {"seq_len": 32, "global_batch": 16, "device": "cpu", "compiled": False}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_its_reason_in_one_line(case):
    reason, spec, split, asked = REFUSED[case]
    with pytest.raises(InputError) as raised:
        check_runnable(spec, split, **(ASKED | asked))
    message = str(raised.value)
    assert reason in message
    assert "\n" not in message
    assert len(message) <= 240
    assert not message.endswith("…")


@pytest.mark.parametrize("case", RUNNABLE)
def test_it_is_let_through(case):
    spec, split, asked = RUNNABLE[case]
    check_runnable(spec, split, **(ASKED | asked))


def test_a_reason_is_whole_behind_the_longest_name_and_every_axis():
    longest = max(load_catalog().models(), key=len)
    spec = replace(WINDOWED, name=longest, experts=0, layers=64, heads=64, kv_heads=64, vocab=128)
    split = Split(pp=16, vpp=2, dp_replicate=128, dp_shard=128, cp=8, tp=8, schedule="zb-v")
    with pytest.raises(InputError, match=r"use zero 2$"):
        check_runnable(spec, split, **(ASKED | {"global_batch": 128 * 128 * 64, "seq_len": 8192}))
