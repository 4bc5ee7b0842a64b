"""From a model and a card to what fits, and to what would when nothing does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.catalog import load_catalog
from crore.cost import parameters, shape_of
from crore.errors import Infeasible, InputError, UnknownName
from crore.plan.fit import LONGEST, FitRequest, _released, fit_record, make_fit

BAICHUAN = FitRequest(model="baichuan-13b", gpu="rtx-3090")
MODES = ["inference fp16", "inference int8", "inference int4", "LoRA bf16", "QLoRA nf4",
         "training bf16"]  # fmt: skip


def rows(fit):
    return {row.mode: row for row in fit.modes}


def runs(mode, **change):
    """True where the mode fits, None where nothing does."""
    try:
        return rows(make_fit(replace(BAICHUAN, **change)))[mode].fits
    except Infeasible:
        return None


@pytest.fixture(scope="module")
def baichuan():
    return make_fit(BAICHUAN)


def test_baichuan_13b_on_a_3090_runs_in_8_and_4_bits_and_is_tuned_in_4(baichuan):
    """As its authors say: int8 and int4 run on a card like the 3090 (Baichuan-13B README)."""
    assert [row.mode for row in baichuan.modes] == MODES
    assert [row.mode for row in baichuan.modes if row.fits] == [
        "inference int8", "inference int4", "QLoRA nf4",
    ]  # fmt: skip
    assert baichuan.verdict == (
        "FITS for inference int8, inference int4, QLoRA nf4; "
        "not for inference fp16, LoRA bf16, training bf16"
    )


def test_a_short_chat_in_16_bits_does_not_fit_either():
    row = rows(make_fit(replace(BAICHUAN, context=64)))["inference fp16"]
    assert not row.fits
    assert 1e9 < row.short_bytes < 2e9
    assert row.largest_context == 0


def test_the_parts_are_the_need_and_the_shortage_what_the_card_lacks(baichuan):
    for row in baichuan.modes:
        assert sum(row.split_bytes.values()) == pytest.approx(row.bytes)
        assert min(row.split_bytes.values()) >= 0
        assert row.short_bytes == max(0.0, row.bytes - 24 * 2**30)
        assert row.fits is (row.short_bytes == 0)


@pytest.mark.parametrize("mode", ["inference int8", "inference int4", "QLoRA nf4"])
def test_the_largest_context_fits_and_one_token_more_does_not(baichuan, mode):
    longest = rows(baichuan)[mode].largest_context
    assert runs(mode, context=longest)
    assert not runs(mode, context=longest + 1)


def test_inference_has_no_batch_and_a_mode_that_does_not_fit_has_none_to_give(baichuan):
    batches = {mode: row.largest_batch for mode, row in rows(baichuan).items()}
    assert [batches[mode] for mode in MODES[:3]] == [None] * 3
    assert batches["QLoRA nf4"] >= 1
    assert batches["training bf16"] == 0


def test_learned_positions_end_the_context():
    made = make_fit(FitRequest(model="gpt2-124m", gpu="rtx-3090"))
    assert made.context == 1024
    assert all(row.positions_end_it and row.largest_context == 1024 for row in made.modes)


def test_a_window_in_every_layer_sets_no_limit():
    made = rows(make_fit(FitRequest(model="mistral-7b", gpu="rtx-3090")))
    assert made["inference fp16"].largest_context is None
    assert not made["inference fp16"].positions_end_it
    assert made["QLoRA nf4"].largest_context < LONGEST


def test_little_to_spare_is_tight():
    made = rows(make_fit(FitRequest(model="deepseek-v3", gpu="h100-sxm", gpus=16)))
    assert made["inference fp16"].tight
    assert not made["inference int4"].tight


def test_two_cards_do_what_one_cannot(baichuan):
    pair = make_fit(replace(BAICHUAN, gpus=2))
    assert rows(pair)["inference fp16"].fits
    assert rows(pair)["LoRA bf16"].fits
    for mode, row in rows(pair).items():
        assert row.bytes <= rows(baichuan)[mode].bytes
    assert any("split over 2 of 2 cards" in line for line in pair.derived)


def test_a_card_without_bf16_tunes_in_fp16():
    made = make_fit(FitRequest(model="llama3-8b", gpu="t4"))
    assert [row.mode for row in made.modes][3:] == ["LoRA fp16", "QLoRA nf4", "training fp16"]


def test_the_largest_model_fits_and_every_larger_one_does_not(baichuan):
    catalog = load_catalog()
    size = {name: float(parameters(shape_of(catalog.model(name)))) for name in _released(catalog)}
    for mode in ("inference int4", "training bf16"):
        best = baichuan.largest[mode]
        assert runs(mode, model=best)
        larger = [name for name in size if size[name] > size[best]]
        assert len(larger) > 8
        for name in larger[:: len(larger) // 8]:
            short = catalog.model(name).max_positions in range(1, 4096)
            assert short or not runs(mode, model=name), name


def test_shapes_nobody_can_download_are_not_suggested():
    names = _released(load_catalog())
    assert "baichuan-13b" in names
    assert not {"llama3.1-405b-l7", "gpt-22b", "dense-30t"} & set(names)


def test_your_own_model_may_be_the_largest(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(
        '[models.mine]\nbase = "yi-34b"\nlayers = 61\nsource = "mine"\ndate = "2026"\n', "utf-8"
    )
    made = make_fit(replace(BAICHUAN, catalog_file=file))
    assert made.largest["inference int4"] == "mine"


def test_nothing_fits_says_how_much_is_missing_and_what_would_do():
    with pytest.raises(Infeasible) as caught:
        make_fit(FitRequest(model="llama3-70b", gpu="rtx-3090"))
    message = str(caught.value)
    assert message.startswith("does not fit: llama3-70b on 1 x rtx-3090, 4,096 tokens: ")
    assert "inference int4 is smallest and needs 45.6 GB a card, 19.8 GB short" in message
    assert "2 such cards hold it; the largest that fits is " in message
    assert len(message) <= 232
    pair = make_fit(FitRequest(model="llama3-70b", gpu="rtx-3090", gpus=2))
    assert rows(pair)["inference int4"].fits


def test_what_a_card_and_its_host_hold_together_is_said_in_one_line():
    with pytest.raises(Infeasible) as caught:
        make_fit(FitRequest(model="llama3-70b", gpu="rtx-3090", engine="llamacpp"))
    message = str(caught.value)
    assert "; or 47 of 80 layers, 17.1 GB on its host, ≤ 2.88 tokens/s" in message
    assert len(message) <= 232


def test_only_what_the_card_cannot_hold_is_shared_with_the_host(baichuan):
    for mode, row in rows(baichuan).items():
        assert (row.offload is not None) is (mode == "inference fp16")
    assert any("31.5 GB/s" in line for line in baichuan.derived)
    record = fit_record(baichuan)["modes"]
    assert record[0]["offload"]["card_layers"] + record[0]["offload"]["host_layers"] == 40
    assert record[1]["offload"] is None


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        ({"model": "baichuan13b"}, UnknownName, "did you mean baichuan-13b"),
        ({"gpu": "rtx3091"}, UnknownName, "rtx-3090"),
        ({"model": "gpt2-124m", "context": 1025}, InputError, "1,024 learned positions"),
        ({"context": LONGEST + 1}, InputError, "at most 16,777,216 tokens"),
    ],
)
def test_bad_input_says_what_to_give(change, error, expected):
    with pytest.raises(error, match=expected):
        make_fit(replace(BAICHUAN, **change))


def test_the_record_holds_the_table_and_where_its_figures_come_from(baichuan):
    record = fit_record(baichuan)
    assert list(record)[:6] == ["verdict", "model", "gpu", "gpus", "engine", "context"]
    row = record["modes"][4]
    assert row["mode"] == "QLoRA nf4"
    assert row["split_bytes"].keys() >= {"weights", "adapters", "gathered_layers", "context"}
    assert record["largest"].keys() == set(MODES)
    assert {"model", "gpu", "int8", "int4", "nf4"} <= record["sources"].keys()
    assert record["derived"] == list(baichuan.derived)
