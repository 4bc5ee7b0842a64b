"""Context parallelism: a sequence cut over ranks; only the attention core needs all of it.

Ulysses (arXiv 2309.14509) swaps sequence parts for heads and back. Where CUDA has it, a ring passes
keys and values round instead, which needs no division of heads.
B: sequences, S: tokens on a rank, R: ranks, H: heads, D: head width.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from crore.model.attention import Core, as_narrow, as_wide
from crore.model.private import all_to_all, ring_attention


def heads_for_tokens(x: Tensor, group: ProcessGroup) -> Tensor:
    """Map [B, S, H, D] with all heads to [B, R·S, H/R, D] with all tokens."""
    ranks = group.size()
    parts = x.unflatten(2, (ranks, -1)).permute(2, 0, 1, 3, 4).contiguous()
    swapped: Tensor = all_to_all(parts.flatten(0, 1), None, None, group).unflatten(0, (ranks, -1))
    return swapped.transpose(0, 1).flatten(1, 2)


def tokens_for_heads(x: Tensor, group: ProcessGroup) -> Tensor:
    """Map [B, R·S, H/R, D] back to [B, S, H, D]."""
    ranks = group.size()
    parts = x.unflatten(1, (ranks, -1)).transpose(0, 1).contiguous()
    swapped: Tensor = all_to_all(parts.flatten(0, 1), None, None, group).unflatten(0, (ranks, -1))
    return swapped.permute(1, 2, 0, 3, 4).flatten(2, 3)


def apply_ulysses(core: Core, group: ProcessGroup) -> None:
    """Make a core attend over the sequence of a whole group."""
    attend = core.forward

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[2] % group.size():
            # Too few key-value heads to share out: every query head takes a copy of its own.
            copies = q.shape[2] // k.shape[2]
            k, v = (x.repeat_interleave(copies, dim=2) for x in (k, v))
        q, k, v = (heads_for_tokens(x, group) for x in (q, k, v))
        return tokens_for_heads(attend(q, k, v), group)

    core.forward = forward  # type: ignore[method-assign]


def apply_ring(core: Core, mesh: DeviceMesh) -> None:
    """Make a core attend round a ring of ranks (CUDA alone: torch has no CPU kernel for it)."""

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        copies, width = q.shape[2] // k.shape[2], v.shape[-1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, as_wide(v, q.shape[-1])))
        if copies > 1:
            k, v = (x.repeat_interleave(copies, dim=1) for x in (k, v))
        return as_narrow(ring_attention(q, k, v, mesh).transpose(1, 2), width)

    core.forward = forward  # type: ignore[method-assign]
