"""The same functions on cards: run where there are some, shown as skipped elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from crore.catalog import load_catalog
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.model.split import Split
from crore.train.clip import global_norm, norm_share
from crore.train.engine import Engine
from crore.train.optim import OptimSettings, build_optimizer

CARDS = torch.cuda.device_count()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(CARDS < 1, reason="no CUDA card on this machine"),
]
several = pytest.mark.skipif(CARDS < 2, reason="fewer than two CUDA cards on this machine")
SEQ_LEN, BATCH, STEPS = 128, 8, 4
SPEC = replace(load_catalog().model("nano-1m"), tied_embeddings=False, vocab=512)
MIXTURE = replace(SPEC, experts=4, topk=2, moe_ffn=64, shared_ffn=64)


def samples(vocab: int) -> Tensor:
    """Return one batch, the same wherever it is made."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocab, (BATCH, SEQ_LEN + 1), generator=generator)


def losses(
    split: Split, device: str, spec: Any = SPEC, **options: Any
) -> list[tuple[float, float]]:
    """Return loss and gradient norm of some steps on this rank's device."""
    world = make_world(split, torch.device(device), experts=spec.experts > 0)
    engine = Engine(spec, SEQ_LEN, world, BuildOptions(**options), global_batch=BATCH)
    named = dict(engine.named_parameters())
    optimizer = build_optimizer("adamw", named, OptimSettings(lr=3e-3, eps=1e-6))
    found = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        engine.backward(samples(spec.vocab)[engine.rows])
        norm = global_norm(norm_share(named, split.ranks // split.pp))
        nats = engine.nats().clone()
        if dist.is_initialized():
            dist.all_reduce(nats)
        found.append((float(nats) / (BATCH * SEQ_LEN), norm))
        optimizer.step(1.0)
        engine.sum_load()
        engine.rebalance()
    return found


def rank(number: int, folder: str, split: Split, spec: Any, options: dict[str, Any]) -> None:
    """Run one rank on its own card and leave its numbers."""
    torch.cuda.set_device(number)
    store = dist.FileStore(f"{folder}/store", split.ranks)  # type: ignore[attr-defined]
    dist.init_process_group(
        "cpu:gloo,cuda:nccl", rank=number, world_size=split.ranks, store=store,
        device_id=torch.device("cuda", number),
    )  # fmt: skip
    try:
        torch.save(losses(split, f"cuda:{number}", spec, **options), f"{folder}/{number}")
    finally:
        dist.destroy_process_group()


def on_cards(
    split: Split, tmp_path: Path, spec: Any = SPEC, **options: Any
) -> list[tuple[float, float]]:
    """Return the numbers of a world with a card for each rank."""
    if split.ranks > CARDS:
        pytest.skip(f"{split.ranks} cards needed, {CARDS} here")
    os.environ["NCCL_DEBUG"] = "WARN"
    mp.spawn(rank, (str(tmp_path), split, spec, options), nprocs=split.ranks)  # type: ignore[attr-defined]
    found: list[tuple[float, float]] = torch.load(tmp_path / "0")
    return found


def assert_close(
    one: list[tuple[float, float]], other: list[tuple[float, float]], by: float
) -> None:
    for (loss, norm), (wanted, wanted_norm) in zip(one, other, strict=True):
        assert loss == pytest.approx(wanted, abs=by)
        assert norm == pytest.approx(wanted_norm, rel=10 * by)


def test_a_card_computes_what_the_cpu_does_in_fp32():
    torch.backends.cuda.matmul.allow_tf32 = False
    alone = Split(micro_batch=BATCH)
    assert_close(losses(alone, "cuda"), losses(alone, "cpu"), by=1e-4)


@pytest.mark.parametrize("spec", [SPEC, MIXTURE], ids=["dense", "mixture"])
def test_bf16_follows_fp32_on_a_card(spec, tmp_path):
    narrow = on_cards(Split(micro_batch=4, precision="bf16"), tmp_path, spec)
    assert_close(narrow, losses(Split(micro_batch=4), "cuda", spec), by=2e-2)


def test_compiled_blocks_compute_the_same_on_a_card():
    alone = Split(micro_batch=BATCH)
    assert_close(losses(alone, "cuda", compiled=True), losses(alone, "cuda"), by=1e-3)


@pytest.mark.skipif(
    CARDS > 0 and torch.cuda.get_device_capability() < (8, 9), reason="a card without 8-bit units"
)
def test_8_bit_products_follow_bf16_on_a_card(tmp_path):
    narrow = on_cards(Split(micro_batch=4, precision="fp8"), tmp_path)
    assert_close(narrow, losses(Split(micro_batch=4), "cuda"), by=5e-2)


@several
@pytest.mark.parametrize(
    ("split", "spec", "options"),
    [
        (Split(dp_shard=2, micro_batch=2), SPEC, {}),
        (Split(tp=2, micro_batch=4, sequence_parallel=True), SPEC, {}),
        (Split(pp=2, micro_batch=2), SPEC, {}),
        (Split(cp=2, micro_batch=4), SPEC, {}),
        (Split(cp=2, micro_batch=4), SPEC, {"ring": True}),
        (Split(dp_shard=2, ep=2, micro_batch=2), MIXTURE, {}),
    ],
    ids=["fsdp", "tp", "pp", "ulysses", "ring", "ep"],
)
def test_every_axis_over_nccl_equals_one_card(split, spec, options, tmp_path):
    torch.backends.cuda.matmul.allow_tf32 = False
    # The ring's attention kernels take 16-bit numbers alone.
    precision = "bf16" if options else "fp32"
    found = on_cards(replace(split, precision=precision), tmp_path, spec, **options)
    alone = losses(Split(micro_batch=BATCH), "cuda", spec)
    assert_close(found, alone, by=2e-2 if options else 1e-4)
