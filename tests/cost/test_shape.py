"""Parameters and FLOPs are the published ones, to the last element where a checkpoint says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.cost import active_parameters, forward_flops_per_token, parameters, shape_of
from crore.cost.arrays import stack_columns
from crore.cost.shape import mean_context, weights

CATALOG = load_catalog()
NAMES = sorted(CATALOG.models())

# Elements of the released checkpoints (Hugging Face safetensors metadata; GPT-2 and OPT as loaded).
CHECKPOINTS = {
    "baichuan-13b": 13_264_901_120,
    "baichuan2-7b": 7_505_973_248,
    "deepseek-llm-67b": 67_425_001_472,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "falcon-7b": 6_921_720_704,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "llama1-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "opt-6.7b": 6_658_473_984,
    "phi-4": 14_659_507_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "smollm2-135m": 134_515_008,
    "tinyllama-1.1b": 1_100_048_384,
    "yi-34b": 34_388_917_248,
}

# Checkpoint, what our count leaves out, and why: small tensors a shape does not speak of.
LEFT_OUT = {
    "deepseek-v3": (671_026_419_200, 58 * 256, "balancing bias of each router"),
    "kimi-k2": (1_026_408_232_448, 60 * 384, "balancing bias of each router"),
    "nemotron-3-nano": (31_577_940_288, 23 * 128, "balancing bias of each router"),
    "gpt-oss-120b": (116_829_156_672, 36 * (64 + 128), "attention sinks and router biases"),
    "qwen3-next-80b-a3b": (79_674_391_296, 48 * 2048, "gate of each shared expert"),
    "bloom-176b": (176_247_271_424, 2 * 14_336, "norm behind the embedding"),
    "gemma2-9b": (9_241_705_984, 42 * 2 * 3584, "norms behind the sub-layers"),
    "olmo2-7b": (7_298_617_344, 32 * 2 * (4096 - 128), "query and key norms over all heads"),
    "gpt-neox-20b": (20_554_567_680, 44 * 2 * 6144, "second norm of a parallel block"),
}


def test_llama_3_405b_has_405_85_billion_parameters(shapes):
    assert parameters(shapes("llama3.1-405b")) == pytest.approx(405.85e9, rel=1e-5)


def test_deepseek_v3_has_671_03_billion_parameters_of_which_37_55_are_active(shapes):
    shape = shapes("deepseek-v3")
    assert parameters(shape) == pytest.approx(671.03e9, rel=1e-5)
    assert active_parameters(shape) == pytest.approx(37.55e9, rel=1e-4)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_parameters_are_those_of_the_checkpoint(name, shapes):
    assert parameters(shapes(name)) == CHECKPOINTS[name]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_parameters_are_those_of_the_checkpoint_but_for_named_small_tensors(name, shapes):
    published, left_out, _ = LEFT_OUT[name]
    assert parameters(shapes(name)) + left_out == published
    assert left_out / published < 5e-5


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("nemotron-3-nano", 31.6e9, 0.002),  # NVIDIA Nemotron 3 Nano report: 31.6B total
        ("nemotron-h-56b", 56e9, 0.01),  # arXiv 2504.03624: "56B", printed without decimals
        ("qwen3-next-80b-a3b", 80e9, 0.01),  # Qwen3-Next model card: "80B in total"
    ],
)
def test_hybrids_have_their_published_totals(name, published, within, shapes):
    assert parameters(shapes(name)) == pytest.approx(published, rel=within)


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("nemotron-3-nano", 3.6e9, 0.01),  # 3.6B with embeddings, the same report
        ("mixtral-8x7b", 12.9e9, 0.01),  # arXiv 2401.04088: 13B active, 12.9B in its release note
        ("qwen3-235b-a22b", 22e9, 0.01),  # Qwen3 report, Table 2
        ("deepseek-v2", 21e9, 0.02),  # arXiv 2405.04434
        ("gpt-oss-120b", 5.13e9 + 201_088 * 2880, 0.002),  # model card: 5.13B without the embedding
        ("kimi-k2", 32.6e9, 0.01),  # arXiv 2507.20534
    ],
)
def test_active_parameters_are_the_published_ones(name, published, within, shapes):
    assert active_parameters(shapes(name)) == pytest.approx(published, rel=within)


@pytest.mark.parametrize(
    ("name", "seq_len", "teraflops"),
    [("llama3.1-405b", 8192.0, 0.8413), ("deepseek-v3", 4096.0, 0.0835)],
)
def test_forward_flops_per_token_are_those_worked_by_hand(name, seq_len, teraflops, shapes):
    flops = forward_flops_per_token(shapes(name), seq_len)
    assert flops / 1e12 == pytest.approx(teraflops, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "seq_len", "share"), [("llama3.1-405b", 8192.0, 0.040), ("deepseek-v3", 4096.0, 0.123)]
)
def test_the_attention_core_has_its_share_of_the_flops(name, seq_len, share, shapes):
    shape = shapes(name)
    # One token alone attends to itself: what is left is the products with weights.
    alone = forward_flops_per_token(shape, 1.0)
    assert 1 - alone / forward_flops_per_token(shape, seq_len) == pytest.approx(share, abs=0.001)


def test_six_times_the_parameters_is_low_for_llama_3_by_four_percent(shapes):
    shape = shapes("llama3.1-405b")
    in_products = parameters(shape) - shape.vocab * shape.hidden
    training = 3 * forward_flops_per_token(shape, 8192.0)
    assert training / (6 * in_products) == pytest.approx(1.042, abs=0.001)


@given(name=st.sampled_from(NAMES), seq_len=st.integers(1, 200_000), more=st.integers(1, 100_000))
def test_flops_grow_with_the_sequence(name, seq_len, more):
    shape = shape_of(CATALOG.model(name))
    longer = forward_flops_per_token(shape, float(seq_len + more))
    assert longer >= forward_flops_per_token(shape, float(seq_len)) * (1 - 1e-12)


@given(name=st.sampled_from(NAMES))
def test_tying_the_embeddings_removes_one_table_and_no_flops(name):
    shape = shape_of(CATALOG.model(name))
    tied, untied = replace(shape, tied=1.0), replace(shape, tied=0.0)
    assert parameters(untied) - parameters(tied) == shape.vocab * shape.hidden
    assert forward_flops_per_token(tied, 512.0) == forward_flops_per_token(untied, 512.0)


@given(name=st.sampled_from(NAMES))
def test_what_a_token_passes_is_no_more_than_what_there_is(name):
    shape = shape_of(CATALOG.model(name))
    assert active_parameters(shape) <= parameters(shape)
    if not shape.experts:
        assert active_parameters(shape) == pytest.approx(parameters(shape), rel=2e-3)


@given(name=st.sampled_from(NAMES), seq_len=st.integers(1, 100_000))
def test_a_window_never_widens_the_context(name, seq_len):
    shape = shape_of(CATALOG.model(name))
    context = mean_context(shape, float(seq_len))
    assert 1 <= context <= (seq_len + 1) / 2


def test_a_windowed_layer_sees_its_window_and_no_more(shapes):
    every_layer = replace(shapes("mistral-7b"), windowed=32.0, window=4096.0)
    seq_len, window = 65_536, 4096
    seen = [min(position + 1, window) for position in range(seq_len)]
    assert mean_context(every_layer, float(seq_len)) == pytest.approx(np.mean(seen), rel=1e-12)


def test_prediction_modules_add_a_layer_and_a_head_pass_each(shapes):
    shape = shapes("deepseek-v3")
    plain, trained = (forward_flops_per_token(shape, 4096.0, mtp) for mtp in (0.0, 1.0))
    layers = 58 + 3
    head = 2 * shape.vocab * shape.hidden
    assert head < trained - plain < head + 2 * (plain - head) / layers
    # 14B beside the main model's 671B, shared tables included (DeepSeek-V3 README).
    tables = 2 * shape.vocab * shape.hidden
    assert weights(shape).mtp + tables == pytest.approx(14e9, rel=0.05)


def test_many_models_are_counted_in_one_call():
    shapes = [shape_of(CATALOG.model(name)) for name in NAMES]
    together = stack_columns(shapes)
    alone = [float(parameters(shape)) for shape in shapes]
    assert np.array_equal(parameters(together), alone)
    flops = [forward_flops_per_token(shape, 2048.0) for shape in shapes]
    assert forward_flops_per_token(together, 2048.0) == pytest.approx(flops, rel=1e-14)
