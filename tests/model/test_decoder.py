"""The decoder: its parts, its names under every cut, tables, positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.shapes import ALIBI, DENSE, FURTHER, GPT, KINDS, PARALLEL, WINDOWED, made, tokens

from crore.errors import InputError
from crore.model import build_decoder
from crore.model.split import Split, stage_of_chunk
from crore.model.stages import cut

kinds = pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())


@kinds
def test_tokens_become_logits_and_every_parameter_has_a_gradient(spec):
    model = made(spec)
    logits = model(tokens(spec))
    assert logits.shape == (2, 16, spec.vocab)
    logits.square().sum().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set()


@kinds
def test_it_is_built_on_the_meta_device_without_memory(spec):
    model = build_decoder(spec, 16)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert {b.device.type for b in model.buffers()} == {"meta"}


@settings(max_examples=25)
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 4), st.sampled_from(["1f1b", "zb-v"]))
def test_a_parameter_has_one_name_in_every_cut(kind, pp, schedule):
    spec = replace(KINDS[kind], layers=8, tied_embeddings=False)
    split = Split(pp=pp, schedule=schedule)
    found: list[str] = []
    for rank in range(pp):
        for chunk in range(split.chunks):
            stage = stage_of_chunk(split, rank, chunk)
            part = cut(build_decoder(spec, 16), split.stages, stage)
            found += [name for name, _ in part.named_parameters()]
    assert sorted(found) == sorted(name for name, _ in build_decoder(spec, 16).named_parameters())


def test_a_tied_table_is_named_once_in_a_whole_model_and_copied_to_both_ends_of_a_pipeline():
    whole = [name for name, _ in build_decoder(GPT, 16).named_parameters()]
    first, last = (cut(build_decoder(GPT, 16), 2, stage) for stage in (0, 1))
    assert "head.weight" not in whole
    assert "embedding.weight" in dict(first.named_parameters())
    assert "head.weight" in dict(last.named_parameters())
    assert not first.tied
    assert not last.tied


def test_memory_on_a_device_tears_a_tied_table_apart_until_it_is_tied_again():
    model = build_decoder(GPT, 16)
    model.to_empty(device="cpu")
    assert "head.weight" in dict(model.named_parameters())
    model.tie()
    assert "head.weight" not in dict(model.named_parameters())


def test_a_tied_tables_gradient_is_the_sum_of_both_uses():
    tied = made(GPT)
    apart = made(replace(GPT, tied_embeddings=False))
    with torch.no_grad():
        apart.load_state_dict(tied.state_dict() | {"head.weight": tied.head.weight})
    for model in (tied, apart):
        model(tokens(GPT)).square().sum().backward()
    both = apart.embedding.weight.grad + apart.head.weight.grad
    assert torch.allclose(tied.embedding.weight.grad, both, rtol=1e-4, atol=1e-3)


@kinds
def test_parts_one_after_the_other_are_the_whole(spec):
    whole = made(spec).eval()
    x = tokens(spec)
    expected = whole(x)
    for stage in range(2):
        part = cut(made(spec), 2, stage).eval()
        x = part(x)
    assert torch.equal(x, expected)


def test_a_parallel_block_reads_one_norm():
    block = made(PARALLEL).layers["0"]
    x = torch.randn(1, 16, 32)
    normed = block.attention_norm(x)
    assert block.feed_forward_norm is None
    assert torch.equal(block(x), x + block.attention(normed) + block.feed_forward(normed))


def test_layers_see_through_the_mask_of_their_kind():
    model = made(WINDOWED)
    masks = [model.layers[str(n)].attention.core.mask for n in range(4)]
    assert [mask.window for mask in masks] == [5, 0, 5, 0]
    assert masks[0] is masks[2]


def test_no_token_beyond_the_window_is_seen():
    spec = replace(WINDOWED, layers=1, window_every=1)
    model, x = made(spec).eval(), tokens(spec, 1)
    other = x.clone()
    other[0, 3] = (other[0, 3] + 1) % spec.vocab
    with torch.no_grad():
        moved = (model(x) != model(other))[0].any(-1).nonzero().flatten().tolist()
    assert moved == [3, 4, 5, 6, 7]


def test_learned_positions_are_those_of_the_tokens_on_a_rank():
    model, x = made(GPT).eval(), tokens(GPT, 1)
    shifted = made(GPT, 16).eval()
    shifted.reset_positions(torch.arange(8, 24))
    expected = shifted.embedding(x) + shifted.positions.weight[8:24]
    seen = []
    shifted.layers["0"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    shifted(x)
    assert torch.equal(seen[0], expected)
    assert not torch.equal(model(x), shifted(x))


def test_more_tokens_than_learned_positions_are_refused():
    with pytest.raises(InputError, match="64 learned positions; seq_len 65 is more"):
        build_decoder(GPT, 65)


def test_slopes_are_those_of_the_heads_on_a_rank():
    model = made(ALIBI)
    model.core_heads = slice(2, 4)
    model.reset_positions(torch.arange(16))
    slopes = [mask.slopes.tolist() for mask in model.masks.values()]
    assert slopes == [[2.0**-6, 2.0**-8]]


def test_further_logits_are_for_training_alone():
    model, x = made(FURTHER, mtp=True), tokens(FURTHER)
    alone = made(FURTHER).eval()
    with torch.no_grad():
        assert len(model.train()(x)) == 3
        assert torch.equal(model.eval()(x), alone(x))


def test_models_with_a_position_of_none_know_order_by_causality_alone():
    spec = replace(DENSE, position="none")
    model = made(spec)
    assert model.rotary is None
    assert model(tokens(spec)).shape == (2, 16, spec.vocab)
    assert torch.isfinite(model(tokens(DENSE))).all()


def test_masks_of_whole_sequences_are_made_ahead_of_the_layers():
    """A compiled block that is recomputed may change nothing outside itself."""
    model, made_in = made(WINDOWED), []
    first = model.layers["0"]
    mask = first.attention.core.mask
    first.register_forward_pre_hook(lambda *_: made_in.append(mask._kept is not None))
    model(tokens(WINDOWED))
    kept = mask._kept
    model(tokens(WINDOWED))
    assert made_in == [True, True]
    assert mask._kept is kept
