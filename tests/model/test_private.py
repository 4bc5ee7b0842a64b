"""Private calls of torch do what crore takes them to do, on the version that runs."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tests.model.shapes import drawn
from tests.train.gloo import run
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from crore.model import private


def test_the_running_torch_is_one_that_was_tested(monkeypatch):
    assert private.is_tested()
    monkeypatch.setattr(torch, "__version__", "2.13.1+cu130")
    assert private.is_tested()
    monkeypatch.setattr(torch, "__version__", "2.1.3")
    assert not private.is_tested()
    monkeypatch.setattr(torch, "__version__", "3.0.0")
    assert not private.is_tested()


def test_a_plain_tensor_begins_at_its_beginning():
    assert tuple(private.local_offset(torch.empty(3, 4))) == (0, 0)


def offsets() -> list[tuple[int, ...]]:
    mesh = init_device_mesh("cpu", (2,))
    local = torch.zeros(2 if dist.get_rank() == 0 else 1, 4)
    rows = DTensor.from_local(
        local, mesh, [Shard(0)], run_check=False, shape=torch.Size([3, 4]), stride=(4, 1)
    )
    columns = DTensor.from_local(torch.zeros(3, 2), mesh, [Shard(1)])
    return [tuple(private.local_offset(x)) for x in (rows, columns)]


def exchanged() -> tuple[list[int], list[float]]:
    """Send rank + 1 rows to rank 0 and two to rank 1; return what came and a gradient."""
    rank = dist.get_rank()
    sent = [rank + 1, 2]
    x = (10.0 * rank + torch.arange(float(sum(sent)))).requires_grad_()
    received = [1, 2] if rank == 0 else [2, 2]
    assert dist.group.WORLD is not None
    out = private.all_to_all(x, received, sent, dist.group.WORLD)
    (out * (rank + 1)).sum().backward()
    assert x.grad is not None
    return out.int().tolist(), x.grad.tolist()


def ring() -> str:
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("cp",))
    q = drawn(1, 2, 4, 8)
    try:
        private.ring_attention(q, q, q, mesh["cp"])
    except NotImplementedError as error:
        return str(error)
    return ""


def all_of_them() -> dict[str, object]:
    return {"offsets": offsets(), "exchanged": exchanged(), "ring": ring()}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return run(all_of_them, 2, tmp_path_factory.mktemp("two"))


def test_a_part_begins_where_the_ones_before_it_end(two_ranks):
    assert [rank["offsets"] for rank in two_ranks] == [[(0, 0), (0, 0)], [(2, 0), (0, 2)]]


def test_rows_arrive_by_rank_and_gradients_go_back_to_who_sent_them(two_ranks):
    assert [rank["exchanged"][0] for rank in two_ranks] == [[0, 10, 11], [1, 2, 12, 13]]
    assert [rank["exchanged"][1] for rank in two_ranks] == [[1, 2, 2], [1, 1, 2, 2]]


def test_a_ring_of_cpus_is_what_torch_has_not_built(two_ranks):
    """When this fails, a new torch has it: then the rule in `refuse` may go."""
    for rank in two_ranks:
        assert "_scaled_dot_product_flash_attention_for_cpu" in rank["ring"]
        assert "does not have a sharding strategy registered" in rank["ring"]


def test_a_scaled_product_takes_its_scales_out_again():
    a, b = drawn(16, 32), drawn(48, 32, seed=3)
    narrow = [x.to(torch.float8_e4m3fn) for x in (a, b)]
    scales = torch.tensor(2.0), torch.tensor(0.25)
    out = private.scaled_product(narrow[0], narrow[1].T, *scales, torch.float32)
    assert torch.allclose(out, 0.5 * narrow[0].float() @ narrow[1].float().T, rtol=1e-3, atol=1e-3)


def test_products_and_cores_are_the_operations_of_their_names():
    names = {str(op) for op in private.PRODUCTS | private.CORES}
    assert "aten.mm.default" in names
    assert "aten._scaled_dot_product_flash_attention_for_cpu.default" in names
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    q = drawn(1, 2, 4, 8)
    with Watch():
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
        torch.nn.functional.linear(q, drawn(3, 8))
    assert set(seen) & private.CORES
    assert set(seen) & private.PRODUCTS


def test_a_silent_group_serves_its_operations_and_is_in_no_registry():
    assert not dist.is_initialized()
    group = private.silent_group(17, 1_221, "quorum")
    assert (group.rank(), group.size(), group.group_name) == (17, 1_221, "quorum")
    x = torch.ones(4)
    dist.all_reduce(x, group=group)
    assert x.tolist() == [1.0] * 4
    assert not dist.is_initialized()
    with pytest.raises(RuntimeError, match="quorum"):
        private.group_named("quorum")
