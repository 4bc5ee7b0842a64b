"""Every number of a fit file, its money above all, is walked back to a source or an assumption."""

from __future__ import annotations

import json

import pytest
from tests.plan.explain.formulas import computed

from crore.errors import InputError, UnknownName
from crore.io import dump_json
from crore.plan import FIT_VERSION, FitRequest, fit_record, make_fit
from crore.plan.explain.again import leaves
from crore.plan.explain.fit import fit_explained
from crore.plan.explain.inputs import is_number
from crore.plan.explain.notes import note_of
from crore.plan.explain.traced import Traced

ASKED = {
    "one 3090": FitRequest(model="baichuan-13b", gpu="rtx-3090"),
    "two 3090s": FitRequest(model="qwen2.5-0.5b", gpu="rtx-3090", gpus=2, tokens=10**9),
    "owned": FitRequest(model="qwen2.5-7b", gpu="h100-sxm", gpus=8, context=2048),
    "no price": FitRequest(model="qwen2.5-0.5b", gpu="mi355x"),
    "llama.cpp": FitRequest(model="baichuan-13b", gpu="rtx-3090", engine="llamacpp"),
    "processor": FitRequest(model="gpt2-124m", gpu="this-machine"),
}
QLORA = "tuning.QLoRA_nf4"


def explained(request: FitRequest) -> Traced:
    text = dump_json("fit", FIT_VERSION, fit_record(make_fit(request)))
    return fit_explained(json.loads(text), "fit.json")


@pytest.fixture(scope="module", params=ASKED)
def fit(request) -> Traced:
    return explained(ASKED[request.param])


@pytest.fixture(scope="module")
def card() -> Traced:
    return explained(ASKED["one 3090"])


def test_every_number_of_the_file_has_a_line_and_is_made_again(fit):
    """A key that fails here needs an Entry in src/crore/plan/explain/fit{,_memory}.py."""
    for key, value in leaves(fit.record).items():
        made = fit.explain(key)
        assert (made.value, made.in_file, made.differs) == (value, value, False), key
    assert fit.numbers().differ == ()


def test_all_that_money_rests_on_has_a_unit_a_range_and_a_source(card):
    told = card.record["tuning"][0]
    keys = [key for key in leaves(card.record) if key.startswith(f"{QLORA}.")]
    assert len(keys) > 70
    for key in keys:
        made = card.explain(key)
        assert made.unit, key
        assert made.inputs or made.kind == "input", key
        assert all(it.origin for it in made.inputs), key
    for name, it in told["assumptions"].items():
        made = card.explain(f"{QLORA}.assumptions.{name}")
        assert (made.low, made.value, made.high) == (it["low"], it["value"], it["high"])
        assert (made.unit, made.note) == (it["unit"], it["source"])


def test_money_is_walked_back_to_the_tariff_the_card_and_the_step(card):
    made = card.explain(f"{QLORA}.cost_usd.p50")
    origins = {it.name: it.origin for it in made.inputs}
    assert "EIA Electric Power Monthly" in origins["household_usd_per_kwh"]
    assert "launch price" in origins["price_usd"]
    assert made.evidence.startswith("extrapolated: none of the runs")
    step = card.explain(f"{QLORA}.step_s")
    assert step.sum == pytest.approx(step.value)
    assert step.made_of[0].name == "products"
    fitted = {it.name: it.effect or 0.0 for it in step.movers}
    assert fitted["linear_peak"] < -0.5  # a faster card is a shorter step
    assert all("fitted on" in it.origin or "catalogue" in it.origin for it in step.movers)


def test_a_formula_computes_its_number_from_its_inputs(fit):
    seen = 0
    for formula, found, value in computed(fit):
        assert found == pytest.approx(value, rel=1e-9), formula
        seen += 1
    assert seen >= 5


def test_parts_add_up_to_the_number(fit):
    sums = {k: m for k in fit.table if (m := fit.explain(k)).sum is not None}
    for key, made in sums.items():
        assert made.sum == pytest.approx(made.value, rel=1e-12), key
    assert {f"modes.{row['mode'].replace(' ', '_')}.memory_bytes_per_gpu"
            for row in fit.record["modes"]} <= sums.keys()  # fmt: skip


def test_every_input_leads_somewhere_and_what_is_computed_says_how(fit):
    for key, entry in fit.table.items():
        for word in filter(is_number, entry.inputs):
            assert fit._value(word) is not None, f"{key} asks for {word}"
            assert key not in fit.table[word].inputs, f"{key} and {word} explain each other"
        if entry.kind == "derived":
            assert entry.formula or entry.functions, key
            assert entry.inputs, key
            assert all(note_of(function).text for function in entry.functions), key


def test_an_unknown_number_is_met_with_the_nearest(card):
    with pytest.raises(InputError, match=f"the fit 'cost_usd'; did you mean {QLORA}.cost_usd. "):
        card.explain("cost_usd")
    with pytest.raises(UnknownName, match=f"did you mean {QLORA}.cost_usd.p50"):
        card.explain(f"{QLORA}.cost_usd.p5o")


def test_a_file_without_its_request_or_with_half_of_it_is_refused():
    record = json.loads(json.dumps(fit_record(make_fit(ASKED["one 3090"]))))
    for broken, why in (
        ({**record, "request": None}, "request is missing: make it anew, crore fit -o"),
        ({**record, "request": 3}, "request is 3"),
        ({**record, "request": {"model": "baichuan-13b"}}, "lacks gpu"),
        ({**record, "request": {**record["request"], "gpsu": 1}}, "did you mean gpu, gpus"),
        ({**record, "request": {**record["request"], "gpus": "many"}}, "request.gpus"),
    ):
        with pytest.raises(InputError, match=why):
            fit_explained(broken, "fit.json")


def test_a_number_that_the_catalogue_changed_since_is_told():
    record = json.loads(json.dumps(fit_record(make_fit(ASKED["one 3090"]))))
    record["tuning"][0]["cost_usd"]["p50"] = 1e6
    changed = fit_explained(record, "fit.json")
    assert changed.numbers().differ == (f"{QLORA}.cost_usd.p50",)
    assert changed.explain(f"{QLORA}.cost_usd.p50").differs
