"""Expert parallelism: experts spread over ranks, tokens sent to them and back, none dropped.

T: token copies on this rank, X: experts of the layer, R: ranks of the group, E: hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

from crore.model.mixture import Experts, arrange, inverse
from crore.model.private import all_to_all, has_values


def spread_experts(experts: Experts, mesh: DeviceMesh) -> None:
    """Leave each rank of a 1-D mesh its X/R experts, and send tokens where theirs are."""
    for name, weight in list(experts.named_parameters(recurse=False)):
        local = distribute_tensor(weight, mesh, [Shard(0)], src_data_rank=None)
        experts.register_parameter(name, nn.Parameter(local))
    group, ranks = mesh.get_group(), mesh.size()
    run = experts.forward

    def forward(rows: Tensor, counts: Tensor) -> Tensor:
        arriving = all_to_all(counts, None, None, group)
        if has_values(counts):
            sent = counts.view(ranks, -1).sum(1).tolist()
            received = arriving.view(ranks, -1).sum(1).tolist()
        else:
            sent = in_turn(rows.shape[0], counts.shape[0], ranks)
            received = [sent[mesh.get_local_rank()]] * ranks
        here = all_to_all(rows, received, sent, group)
        order, own = by_expert(arriving.view(ranks, -1), sum(received))
        back = inverse(order)
        done = arrange(run(arrange(here, order, back, 1), own), back, order, 1)
        return all_to_all(done, sent, received, group)

    experts.forward = forward  # type: ignore[method-assign]


def in_turn(rows: int, experts: int, ranks: int) -> list[int]:
    """Return the rows that each rank's experts get when rows go to the experts in turn.

    What is assumed where tensors have no values (a rehearsal), and what `Mixture.in_turn` does.
    """
    own = experts // ranks
    each, more = divmod(rows, experts)
    return [each * own + min(max(more - rank * own, 0), own) for rank in range(ranks)]


def by_expert(arriving: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the order that sorts `rows` come rank by rank [R, X/R] by expert, and rows of each.

    The number of rows is told, so that no device has to be waited for.
    """
    ranks, own = arriving.shape
    expert = torch.arange(own, device=arriving.device).repeat(ranks)
    label = expert.repeat_interleave(arriving.flatten(), output_size=rows)
    return label.argsort(stable=True), arriving.sum(0)
