"""Text from a model in training: every rank takes part, one token at a time."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.data import Dataset
from crore.train.engine import Engine

TEMPERATURE = 0.7
CHOICES = 40
"""The most likely tokens that one is drawn from."""
LENGTH_UNIT = 32
"""A text is padded to a multiple of this many tokens a rank: few different shapes."""


def write_text(
    engine: Engine, data: Dataset, prompt: str, tokens: int, seed: int, *, one_shape: bool = False
) -> str:
    """Return what the model writes after a prompt; the same on every rank.

    `one_shape` runs every token at the full sequence length, for blocks compiled for it.
    """
    ids = data.encode(prompt)[-(engine.seq_len - 1) :] or [data.end_of_text]
    generator = torch.Generator().manual_seed(seed)
    begun = len(ids)
    while len(ids) < min(begun + tokens, engine.seq_len):
        drawn = draw(next_logits(engine, ids, one_shape=one_shape), generator)
        if drawn == data.end_of_text:
            break
        ids.append(drawn)
    return data.decode(ids[begun:])


def draw(logits: Tensor, generator: torch.Generator) -> int:
    """Return a token drawn from the likeliest of logits [V]."""
    best = torch.topk(logits.float().cpu(), min(CHOICES, logits.shape[0]))
    shares = torch.softmax(best.values / TEMPERATURE, -1)
    place = int(torch.multinomial(shares, 1, generator=generator))
    return int(best.indices[place])


@torch.no_grad()
def next_logits(engine: Engine, ids: list[int], *, one_shape: bool = False) -> Tensor:
    """Return the logits [V] of the token after `ids`, on every rank."""
    split, length = engine.world.split, engine.seq_len // engine.world.split.cp
    padded = torch.tensor([ids + [0] * (_shown(engine, len(ids), one_shape) - len(ids))])
    here, place = divmod(len(ids) - 1, length)
    logits = engine.logits(padded)
    if not dist.is_initialized():
        assert logits is not None
        return logits[0, place]
    out = torch.zeros(engine.spec.vocab, device=engine.world.device)
    if logits is not None and engine.world.cp_rank == here and engine.world.dp_rank == 0:
        part = engine.spec.vocab // split.tp
        first = engine.world.tp_rank * part
        out[first : first + part] = logits[0, place].float()
    # One rank holds each part and the others zeros, so the sum is the whole.
    dist.all_reduce(out)
    return out


def _shown(engine: Engine, begun: int, one_shape: bool) -> int:
    """Return how many tokens to run: what follows the text changes nothing, attention is causal.

    A pipeline has buffers for the whole sequence, and context ranks a part of it each.
    """
    split = engine.world.split
    if one_shape or split.pp > 1 or split.cp > 1:
        return engine.seq_len
    unit = LENGTH_UNIT * split.tp
    return min(-(-begun // unit) * unit, engine.seq_len)
