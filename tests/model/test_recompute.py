"""Recompute changes what is kept, and nothing else."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.model.shapes import DENSE, LATENT, MIXTURE, WINDOWED, made, tokens
from torch.utils._pytree import tree_leaves

from crore.cost.layout import RECOMPUTE
from crore.model.loss import Loss
from crore.model.recompute import apply_recompute
from crore.model.split import Split

MODELS = {"dense": DENSE, "mixture": MIXTURE, "latent": LATENT, "windowed": WINDOWED}
MODES = ["light", "selective", "full"]


def ran(spec, mode, monkeypatch, layers=0):
    """Return loss, gradients, and the bytes kept between the passes, of one model."""
    model, samples = made(spec), tokens(spec, 2, 17)
    apply_recompute(model, Split(recompute=mode, recompute_layers=layers))
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    module = sys.modules[apply_recompute.__module__]
    pair_of, pairs = module.create_selective_checkpoint_contexts, []

    def watched(policy):
        pairs.append(pair_of(policy))
        return pairs[-1]

    monkeypatch.setattr(module, "create_selective_checkpoint_contexts", watched)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = Loss()(model(samples[:, :-1]), samples[:, 1:])
    for caching, _ in pairs:
        for held in tree_leaves([list(calls.values()) for calls in caching.storage.values()]):
            if isinstance(tensor := getattr(held, "val", None), torch.Tensor):
                keep(tensor)
    size = sum(storage.nbytes() for storage in kept.values())
    loss.backward()
    monkeypatch.undo()
    return float(loss.detach()), {n: p.grad for n, p in model.named_parameters()}, size


@pytest.fixture(scope="module", params=MODELS)
def spec(request):
    return MODELS[request.param]


def test_every_mode_of_the_planner_has_the_same_loss_and_gradients(spec, monkeypatch):
    assert set(RECOMPUTE) == {"none", *MODES}
    loss, grads, _ = ran(spec, "none", monkeypatch)
    for mode in MODES:
        again, others, _ = ran(spec, mode, monkeypatch)
        assert again == loss
        for name, grad in grads.items():
            assert torch.allclose(grad, others[name], atol=1e-7), (mode, name)


def test_the_more_is_recomputed_the_less_is_kept(spec, monkeypatch):
    none, light, selective, full = (ran(spec, m, monkeypatch)[2] for m in ("none", *MODES))
    assert none > 1.1 * light
    assert light > selective
    assert selective > 1.3 * full


def test_full_recompute_of_some_layers_keeps_the_others(monkeypatch):
    sizes = [ran(WINDOWED, "full", monkeypatch, layers)[2] for layers in (1, 2, 3, 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert sizes[-1] == ran(WINDOWED, "full", monkeypatch)[2]


def test_layers_of_a_rank_are_shared_out_over_its_chunks():
    split = Split(pp=2, vpp=2, schedule="interleaved", recompute="full", recompute_layers=3)
    model = made(WINDOWED)
    apply_recompute(model, split)
    assert ["forward" in vars(block) for block in model.layers.values()] == [
        True,
        True,
        False,
        False,
    ]
