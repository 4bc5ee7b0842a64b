"""The eager list of the planner is what the decoder's code does: products, passes, kept bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crore.catalog import load_catalog
from crore.cost import Job, Layout, machine_of, operations, shape_of, stack_of
from crore.model import build_decoder, initialise
from crore.model.loss import Loss

CATALOG = load_catalog()
NANO = CATALOG.model("nano-1m")
MODELS = {
    "nano-1m": NANO,
    "nano-5m": CATALOG.model("nano-5m"),
    "grouped queries, untied": replace(NANO, kv_heads=2, tied_embeddings=False),
    "layer norm, gelu, untied": replace(NANO, norm="layer", gated_mlp=False, tied_embeddings=False),
}
SEQ_LEN, MICRO_BATCH = 64, 2
PRODUCTS = {"aten::mm"}
ELSEWHERE = {
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
}
"""Kernels that the list does not price by the bytes they are given."""
GATHERS = {
    "aten::embedding", "aten::embedding_dense_backward", "aten::nll_loss_forward",
    "aten::nll_loss_backward", "aten::new_zeros",
}  # fmt: skip
"""Kernels that read next to nothing of their largest input."""
SMALL = 8 * SEQ_LEN * MICRO_BATCH
"""Numbers of tokens and statistics, a few bytes each, are no passes."""


class Trace(TorchDispatchMode):
    """Adds up FLOPs of products and bytes of other kernels, views left out."""

    def __init__(self):
        super().__init__()
        self.flops, self.moved = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        outs = [t for t in tree_leaves(made) if isinstance(t, torch.Tensor)]
        if name in PRODUCTS:
            self.flops += 2 * given[0].shape[0] * given[0].shape[1] * given[1].shape[1]
        elif name not in ELSEWHERE and not _is_view(given, outs):
            read = [] if name in GATHERS else given
            self.moved += sum(map(_bytes, [*read, *outs]))
        return made


def _is_view(given, outs):
    storages = {t.untyped_storage()._cdata for t in given}
    return all(t.untyped_storage()._cdata in storages for t in outs)


def _bytes(tensor):
    """Bytes behind a tensor; what is expanded is read once."""
    own = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        own *= size if stride else 1
    return own * tensor.element_size() if own * tensor.element_size() > SMALL else 0


def job_of(model):
    """One micro-batch of one rank on a CPU."""
    return Job(
        shape=shape_of(model), stack=stack_of("crore"),
        machine=machine_of(CATALOG.accelerator("cpu-2core"), "fp32"),
        layout=Layout(micro_batch=float(MICRO_BATCH)), seq_len=float(SEQ_LEN),
        global_batch=float(MICRO_BATCH),
    )  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def ran(request):
    """Return (job, forward trace, backward trace, bytes kept) of one micro-batch of a model."""
    torch.set_num_threads(1)
    model = MODELS[request.param]
    decoder = build_decoder(model, SEQ_LEN, device="cpu")
    decoder.tie()
    initialise(decoder, 0)
    decoder.reset_positions(torch.arange(SEQ_LEN))
    samples = torch.randint(4096, (MICRO_BATCH, SEQ_LEN + 1))
    inputs, targets = samples[:, :-1].contiguous(), samples[:, 1:].contiguous()
    own = {t.untyped_storage()._cdata for t in (*decoder.parameters(), *decoder.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes(), storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), Trace() as forward:
        loss = Loss()(decoder(inputs), targets)
    size = sum(nbytes for nbytes, storage in kept.values())
    with Trace() as backward:
        loss.backward()
    return job_of(model), forward, backward, size


def listed(job, field, *, backward, kind=None):
    """Sum a field of the list over one micro-batch."""
    return sum(
        float(getattr(op, field) * op.count)
        for op in operations(job)
        if (op.phase == "backward") == backward and op.repeat == "micro_batch"
        and (kind is None or op.kind == kind)
    )  # fmt: skip


def test_products_are_exact(ran):
    job, forward, backward, _ = ran
    assert listed(job, "flops", backward=False, kind="gemm") == forward.flops
    assert listed(job, "flops", backward=True, kind="gemm") == backward.flops


def test_passes_move_what_the_kernels_move(ran):
    job, forward, backward, _ = ran
    scale = float(job.machine.element_scale)
    ahead = scale * listed(job, "bytes_moved", backward=False, kind="memory")
    back = scale * listed(job, "bytes_moved", backward=True, kind="memory")
    assert ahead == pytest.approx(forward.moved, rel=0.01)
    assert back == pytest.approx(backward.moved, rel=0.01)


def test_what_is_kept_for_the_backward_pass_is_exact(ran):
    job, _, _, kept = ran
    listed_bytes = float(job.machine.element_scale) * listed(job, "saved_bytes", backward=False)
    # The loss also keeps a few scalars.
    assert 0 <= kept - listed_bytes <= 256
