"""A world's model among others: its loss is a share of all worlds', and no weight is stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.train.gloo import run
from tests.train.tiny import BATCH, SEQ_LEN, VOCAB, home

from crore.catalog import load_catalog
from crore.catalog.types import ModelSpec
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.model.split import Split
from crore.train.engine import Engine
from crore.train.local import local_part

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return home(tmp_path_factory.mktemp("home"))


def engine_of(root: Path, split: Split, rows: int, *, model: str = "tiny") -> Engine:
    spec: ModelSpec = load_catalog(root / "tiny.toml").model(model)
    world = make_world(split, CPU, experts=spec.experts > 0)
    return Engine(spec, SEQ_LEN, world, BuildOptions(seed=3), global_batch=rows)


def tokens(rows: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (rows, SEQ_LEN + 1), generator=draw)


def gradients(engine: Engine) -> dict[str, torch.Tensor]:
    found = {}
    for name, p in engine.named_parameters():
        assert p.grad is not None
        found[name] = local_part(p.grad).clone()
        p.grad = None
    return found


def close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-8)


def test_the_gradients_of_worlds_that_share_a_batch_add_up_to_its_own(specs):
    engine, samples = engine_of(specs, Split(), BATCH), tokens(BATCH)
    engine.backward(samples)
    whole, nats = gradients(engine), float(engine.nats())
    added: dict[str, torch.Tensor] = {}
    parts_nats = 0.0
    for first, last in ((0, 5), (5, 7), (7, BATCH)):
        engine.resize(last - first, BATCH)
        engine.backward(samples[first:last])
        for name, tensor in gradients(engine).items():
            added[name] = added.get(name, torch.zeros_like(tensor)) + tensor
        parts_nats += float(engine.nats())
    close(added, whole)
    assert parts_nats == pytest.approx(nats, rel=1e-5)


def test_a_world_that_runs_all_rows_of_twice_the_samples_has_half_the_gradient(specs):
    engine, samples = engine_of(specs, Split(), BATCH), tokens(BATCH)
    engine.backward(samples)
    whole = gradients(engine)
    engine.resize(BATCH, 2 * BATCH)
    engine.backward(samples)
    close({name: 2 * tensor for name, tensor in gradients(engine).items()}, whole)
    engine.resize(BATCH)
    engine.backward(samples)
    close(gradients(engine), whole)


def test_rows_beyond_a_worlds_samples_count_nothing(specs):
    engine, samples = engine_of(specs, Split(micro_batch=2), BATCH), tokens(5)
    engine.resize(6, BATCH)
    engine.backward(torch.nn.functional.pad(samples, (0, 0, 0, 1), value=-1))
    filled, nats = gradients(engine), float(engine.nats())
    plain = engine_of(specs, Split(), BATCH)
    plain.resize(5, BATCH)
    plain.backward(samples)
    close(filled, gradients(plain))
    assert nats == pytest.approx(float(plain.nats()), rel=1e-5)


def test_a_step_without_samples_has_no_loss(specs):
    engine = engine_of(specs, Split(), BATCH)
    engine.backward(tokens(BATCH))
    assert float(engine.nats()) > 0
    engine.rest()
    assert float(engine.nats()) == 0


def test_a_step_that_does_not_hold_leaves_no_load_of_experts(specs):
    engine = engine_of(specs, Split(), BATCH, model="tiny-moe")
    engine.backward(tokens(BATCH))
    before = engine.sum_load()
    assert before is not None
    assert float(before.sum()) > 0
    engine.forget_load()
    after = engine.sum_load()
    assert after is not None
    assert float(after.sum()) == 0
    engine.backward(tokens(BATCH))
    assert torch.equal(engine.sum_load(), before)  # type: ignore[arg-type]


def test_the_load_of_all_worlds_moves_the_routers(specs):
    """What is done to the summed load before `rebalance` counts: other worlds' is added there."""
    engine = engine_of(specs, Split(), BATCH, model="tiny-moe")
    balances = [b for part in engine.parts for n, b in part.named_buffers() if "balance" in n]
    assert balances
    for elsewhere in (0.0, 1e6):
        for balance in balances:
            balance.zero_()
        engine.backward(tokens(BATCH))
        load = engine.sum_load()
        assert load is not None
        idle = load.argmin(1)
        for row, expert in zip(load, idle, strict=True):
            row[expert] += elsewhere  # all other worlds ask for it
        engine.rebalance()
        for balance, expert in zip(balances, idle.tolist(), strict=True):
            assert (balance[expert] < 0) == (elsewhere > 0)


def looks_again(root: Path, zero: int) -> tuple[float, float, float, float]:
    """Return a loss, the same of changed weights, the loss of a step with them, and once more."""
    split = Split(dp_shard=2, zero=zero)
    engine, samples = engine_of(root, split, BATCH), tokens(BATCH)
    own = samples[engine.rows]
    before = engine.evaluate(own)
    with torch.no_grad():
        for p in dict(engine.named_parameters()).values():
            local_part(p).mul_(4.0)
    after = engine.evaluate(own)
    engine.backward(own)
    stepped = float(engine.nats())
    return tuple(map(_summed, (before, after, stepped, engine.evaluate(own))))  # type: ignore[return-value]


def _summed(value: float) -> float:
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


@pytest.mark.parametrize("zero", [1, 3])
def test_no_whole_weight_outlives_an_evaluation(specs, tmp_path, zero):
    results = run(looks_again, 2, tmp_path, specs, zero)
    before, after, stepped, again = results[0]
    assert results[1] == results[0]
    assert abs(after - before) > 0.01 * before
    assert stepped == pytest.approx(after, rel=1e-6)
    assert again == pytest.approx(after, rel=1e-6)
    alone = engine_of(specs, Split(), BATCH)
    assert alone.evaluate(tokens(BATCH)) == pytest.approx(before, rel=1e-5)
    with torch.no_grad():
        for _, p in alone.named_parameters():
            p.mul_(4.0)
    assert alone.evaluate(tokens(BATCH)) == pytest.approx(after, rel=1e-5)
