"""FSDP: shards in fp32, gradients summed in fp32, experts cut over ranks of their own."""

from __future__ import annotations

import torch
import torch.distributed as dist
from tests.model.shapes import GPT, MIXTURE, made, tokens
from tests.train.gloo import run
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from crore.model.loss import Loss
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions, build_parts
from crore.model.shard import policy_of
from crore.model.split import Split


def test_weights_are_cast_and_gradients_are_not():
    assert policy_of("fp32").param_dtype is None
    for precision in ("bf16", "fp8"):
        policy = policy_of(precision)
        assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)


def backward(model, spec, rows):
    samples = tokens(spec, 4, 17)[rows]
    loss = Loss()
    loss.reset(64)
    loss(model(samples[:, :-1]), samples[:, 1:]).backward()


def whole(grad):
    assert isinstance(grad, DTensor)
    return grad.full_tensor()


def on_a_rank():
    """Return gradients, types and what is wrapped, of two models."""
    rank, found = dist.get_rank(), {}
    rows = slice(2 * rank, 2 * rank + 2)
    for name, spec, split in (
        ("tied", GPT, Split(dp_shard=2)),
        ("mixture", MIXTURE, Split(dp_shard=2, precision="bf16")),
        ("experts apart", MIXTURE, Split(dp_shard=2, ep=2)),
    ):
        world = make_world(split, torch.device("cpu"), experts=spec.experts > 0)
        (model,) = build_parts(spec, 16, world, BuildOptions())
        wrapped = {n for n, module in model.named_modules() if isinstance(module, FSDPModule)}
        kept = sum(p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor))
        backward(model, spec, rows)
        grads = {n: whole(p.grad) for n, p in model.named_parameters()}
        types = {p.dtype for p in model.parameters()} | {g.dtype for g in grads.values()}
        found[name] = grads, wrapped, types, kept
    return found


def test_gradients_of_two_ranks_are_those_of_the_whole_batch(tmp_path):
    ranks = run(on_a_rank, 2, tmp_path)
    for name, spec, within in (("tied", GPT, 1e-5), ("mixture", MIXTURE, 3e-2),
                               ("experts apart", MIXTURE, 1e-5)):  # fmt: skip
        alone = made(spec)
        backward(alone, spec, slice(0, 4))
        size = sum(p.numel() for p in alone.parameters())
        for grads, _, types, _ in (rank[name] for rank in ranks):
            assert types == {torch.float32}
            for key, parameter in alone.named_parameters():
                grad = parameter.grad
                # The router of a token that is between two experts is another one in 16 bits.
                if "feed_forward.router" not in key or within < 1e-3:
                    error = (grads[key] - grad).norm() / grad.norm()
                    assert float(error) < (within if within < 1e-3 else 0.3), (name, key)
        assert sum(rank[name][3] for rank in ranks) == size
    blocks = {f"layers.{n}" for n in range(3)}
    assert ranks[0]["tied"][1] == {"", "layers.0", "layers.1"}
    experts = {f"layers.{n}.feed_forward.experts" for n in (1, 2)}
    assert ranks[0]["mixture"][1] == {"", "embedding", "norm", "head"} | blocks | experts
    assert ranks[0]["experts apart"][1] == {"", "embedding", "norm", "head"} | blocks
