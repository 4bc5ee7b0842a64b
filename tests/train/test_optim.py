"""The optimizers over shards make the steps that torch's own make over whole weights."""

from __future__ import annotations

import pytest
import torch
from tests.train.gloo import run
from tests.train.small import SPREADS, backward, named, small, whole
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from crore.cost import layout
from crore.errors import InputError, UnknownName
from crore.train.adamw import decays, kind_of
from crore.train.optim import OPTIMIZERS, OptimSettings, build_optimizer

SETTINGS = OptimSettings(lr=0.02)
STEPS = 6


def trained(optimizer, model, steps):
    losses = []
    for step in steps:
        losses.append(backward(model, step))
        optimizer.step(1 / (step + 1))
        optimizer.zero_grad()
    return losses


def after_training(name, spread, steps=STEPS):
    model = small()
    if spread:
        SPREADS[spread][1](model)
    optimizer = build_optimizer(name, named(model), SETTINGS)
    losses = trained(optimizer, model, range(steps))
    state = {key: whole(value) for key, value in optimizer.state_tensors().items()}
    return losses, {key: whole(value) for key, value in named(model).items()}, state


def torch_adamw(model):
    parameters = named(model)
    rule = {decay: [p for n, p in parameters.items() if decays(n, p, SETTINGS) == decay]
            for decay in (True, False)}  # fmt: skip
    groups = [
        {"params": rule[True], "weight_decay": 0.1},
        {"params": rule[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=SETTINGS.lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def test_adamw_is_torchs_to_the_bit():
    model, other = small(), small()
    mine, theirs = build_optimizer("adamw", named(model), SETTINGS), torch_adamw(other)
    trained(mine, model, range(STEPS))
    for step in range(STEPS):
        backward(other, step)
        for group in theirs.param_groups:
            group["lr"] = SETTINGS.lr * (1 / (step + 1))
        theirs.step()
        theirs.zero_grad()
    for (name, a), b in zip(named(model).items(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert torch.equal(
            mine.state_tensors()[f"{name}.exp_avg_sq"], theirs.state[b]["exp_avg_sq"]
        )


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_spread_model_trains_as_one_process(name, spread, tmp_path):
    losses, weights, state = after_training(name, "")
    # Muon rounds to bf16, which turns a difference in the last bit into 1/256 of a step.
    near = 1e-5 if name == "adamw" else 1e-2
    for there in run(after_training, SPREADS[spread][0], tmp_path, name, spread):
        assert there[0] == pytest.approx(losses, rel=near)
        assert there[1].keys() == weights.keys()
        assert there[2].keys() == state.keys()
        for mine, alone in ((there[1], weights), (there[2], state)):
            for key, value in alone.items():
                torch.testing.assert_close(mine[key], value, rtol=near, atol=near, msg=key)


def saved(name, spread, folder):
    model = small()
    SPREADS[spread][1](model)
    optimizer = build_optimizer(name, named(model), SETTINGS)
    trained(optimizer, model, range(3))
    save(named(model) | optimizer.state_tensors(), checkpoint_id=folder)
    return optimizer.state_facts()


def resumed(name, spread, folder, facts):
    model = small()
    SPREADS[spread][1](model)
    optimizer = build_optimizer(name, named(model), SETTINGS)
    load(named(model) | optimizer.state_tensors(), checkpoint_id=folder)
    optimizer.load_facts(facts)
    return trained(optimizer, model, range(3, STEPS))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("spread", ["fsdp4", "tp2", "fsdp2xtp2"])
def test_the_state_moves_to_another_layout(name, spread, tmp_path):
    folder = tmp_path / "checkpoint"
    facts = run(saved, 2, tmp_path, name, "fsdp2", folder)[0]
    later = after_training(name, "")[0][3:]
    for losses in run(resumed, SPREADS[spread][0], tmp_path, name, spread, folder, facts):
        assert losses == pytest.approx(later, rel=1e-5 if name == "adamw" else 1e-2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_loaded_in_place_before_the_first_step_is_what_it_uses(name):
    model = small()
    optimizer = build_optimizer(name, named(model), SETTINGS)
    trained(optimizer, model, range(3))
    again = small()
    fresh = build_optimizer(name, named(again), SETTINGS)
    assert all(not t.any() for t in fresh.state_tensors().values())
    for key, value in optimizer.state_tensors().items():
        fresh.state_tensors()[key].copy_(value)
    fresh.load_facts(optimizer.state_facts())
    again.load_state_dict(model.state_dict())
    assert trained(fresh, again, range(3, 6)) == trained(optimizer, model, range(3, 6))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_stays(name):
    model = small()
    optimizer = build_optimizer(name, named(model), SETTINGS)
    backward(model, 0)
    stays = {"head.weight", "layers.0.up.weight"}
    for key in stays:
        named(model)[key].grad = None
    before = {key: value.clone() for key, value in named(model).items()}
    optimizer.step(1.0)
    stayed = {key for key, value in named(model).items() if torch.equal(value, before[key])}
    assert stayed == stays


def test_matrices_decay_and_tables_norms_and_biases_do_not():
    parameters = named(small()) | {"layers.0.experts.up_bias": nn.Parameter(torch.zeros(3, 6))}
    kinds = {name: kind_of(name, p) for name, p in parameters.items()}
    assert kinds["embedding.weight"] == "embedding"
    assert kinds["head.weight"] == "head"
    assert kinds["layers.0.experts"] == kinds["layers.1.up.weight"] == "matrix"
    assert (
        kinds["layers.0.experts.up_bias"]
        == kinds["norm.weight"]
        == kinds["layers.0.up.bias"]
        == "vector"
    )
    decayed = {kinds[name] for name, p in parameters.items() if decays(name, p, SETTINGS)}
    assert decayed == {"matrix", "head"}
    asked = OptimSettings(lr=1.0, decay_embeddings=True)
    assert decays("embedding.weight", parameters["embedding.weight"], asked)


def test_optimizers_are_those_a_plan_may_name():
    assert tuple(OPTIMIZERS) == layout.OPTIMIZERS


def test_wrong_settings_are_one_line():
    with pytest.raises(UnknownName, match="unknown optimizer 'adam'; did you mean adamw"):
        build_optimizer("adam", {}, SETTINGS)
    with pytest.raises(InputError, match="must be 0 or more"):
        OptimSettings(lr=-1)
    with pytest.raises(InputError, match="from 0 to below 1"):
        OptimSettings(lr=1, betas=(0.9, 1.0))
