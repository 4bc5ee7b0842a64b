"""The planner behind a page: one more point of the same shape, or one line that helps."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.small_sweep import REQUEST, small_sweep

from crore.cli import run
from crore.errors import CroreError, Infeasible, InputError, UnknownName
from crore.plan import make_plan
from crore.report import live as live_module
from crore.report.live import Live, choices, live_of
from crore.report.scenario import KEYS, request_from, scenario_of, written
from crore.report.sheet import sheet_of

H100 = {"model": "llama-3.1-8b", "gpu": "h100-sxm"}


@pytest.fixture(scope="module")
def swept():
    return small_sweep()


@pytest.fixture(scope="module")
def sheet(swept):
    return sheet_of(swept, "mission")


@pytest.fixture(scope="module")
def live(swept, sheet) -> Live:
    return live_of(swept, sheet["points"])


def own(**more: str) -> dict[str, str]:
    """Return the page's scenario with other values."""
    return {**scenario_of(REQUEST), **more}


def test_a_count_of_the_grid_is_answered_with_the_point_of_the_page(live, sheet):
    for at in (0, 2, 3):
        point = {**sheet["points"][at], "news": []}
        answer = live.answer(own(gpus=str(point["gpus"])))
        assert {key: answer[key] for key in point} == point
        assert "axes" not in answer


@pytest.mark.parametrize(
    "scenario",
    [
        {**H100, "gpus": "128"},
        {"model": "mixtral-8x7b", "gpu": "b200-sxm", "gpus": "1k", "tokens": "2T"},
        {**H100, "gpus": "256", "precision": "fp8", "fix": "tp=2,micro_batch=1"},
    ],
    ids=lambda it: written(it)[4:40],
)
def test_an_answer_is_the_plan_of_crore_plan(live, scenario):
    answer, plan = live.answer(scenario), make_plan(request_from(scenario)).plan
    assert answer["days"][1] == pytest.approx(plan.days.value, rel=1e-5)
    assert answer["memory"]["used"] == pytest.approx(plan.memory_bytes)
    assert (answer["state"], answer["used"]) == ("fits", plan.gpus)
    assert answer["gpus"] == request_from(scenario).gpus


def test_an_answer_has_every_field_of_a_point(live, sheet):
    for scenario in ({**H100, "gpus": "96"}, {"model": "gpt-4", "gpu": "rtx-3090", "gpus": "1"}):
        assert set(sheet["points"][0]) <= set(live.answer(scenario))


def test_the_scenario_comes_back_as_it_was_understood(live):
    answer = live.answer({**H100, "gpus": "1,024", "tokens": "15000B"})
    assert answer["scenario"] == {**H100, "gpus": "1024", "tokens": "15T"}
    again = live.answer(answer["scenario"])
    assert again == answer


def test_axes_grow_where_the_page_ends(live, sheet):
    answer = live.answer({"model": "llama-3.1-405b", "gpu": "b200-sxm", "gpus": "512"})
    assert set(answer["axes"]) <= set(sheet["axes"])
    for key, value in (("memory", answer["memory"]["capacity"]), ("days", answer["days"][1])):
        low, high = answer["axes"].get(key, sheet["axes"][key])["domain"]
        assert low <= value <= high
    assert answer["axes"]["memory"]["domain"][1] > sheet["axes"]["memory"]["domain"][1]


def test_what_does_not_fit_is_a_point_that_says_what_would(live):
    answer = live.answer({"model": "llama-3.1-405b", "gpu": "h100-sxm", "gpus": "8"})
    assert answer["state"] == "short"
    assert answer["memory"]["used"] > answer["memory"]["usable"]
    words = answer["change"][0].split()
    enough = live.answer({"model": "llama-3.1-405b", "gpu": "h100-sxm", "gpus": words[0]})
    assert words[1:5] == ["such", "GPUs", "hold", "it,"]
    assert enough["state"] == "fits"
    assert len(f"{answer['verdict']}; {answer['change'][0]}") <= 240


def test_a_count_that_divides_into_nothing_leaves_gpus_idle(live):
    answer = live.answer({"model": "llama-3.1-70b", "gpu": "h100-sxm", "gpus": "4099"})
    assert (answer["state"], answer["used"]) == ("idle", 4096)
    assert "3 of 4,099 GPUs idle" in answer["verdict"]
    fewer = live.answer({"model": "llama-3.1-70b", "gpu": "h100-sxm", "gpus": "4096"})
    assert answer["days"] == fewer["days"]


def test_more_gpus_of_the_pages_own_scenario_are_never_slower(live, sheet):
    best = min(it["days"][1] for it in sheet["points"][:4] if it.get("days"))
    for gpus in ("4097", "5000", "9,999,999"):
        assert live.answer(own(gpus=gpus))["days"][1] <= best


BAD = [
    ({**H100, "gpu": "h100-smx", "gpus": "8"}, "unknown GPU 'h100-smx'; did you mean h100-sxm"),
    ({**H100, "model": "meta/llama-9", "gpus": "8"}, "unknown model 'meta/llama-9'"),
    ({**H100, "gpus": "-5"}, "gpus must be a positive whole number, not '-5'"),
    ({**H100, "gpus": "0"}, "gpus must be"),
    ({**H100, "gpus": "10000001"}, "gpus is at most 10,000,000 on this page"),
    ({**H100, "gpus": "9" * 5000}, "gpus must be"),
    ({**H100, "gpus": 8}, "gpus must be a word or a number"),
    ({**H100, "gpus": ""}, "a scenario names its gpus"),
    ({"gpu": "h100-sxm", "gpus": "8"}, "a scenario names its model"),
    ({**H100, "gpus": "8", "gpu": "this-machine"}, "this-machine is one machine"),
    ({**H100, "gpus": "8", "tokens": "1000"}, "shorter than one step"),
    ({**H100, "gpus": "8", "precision": "fp7"}, "fp7"),
    ({**H100, "gpus": "8", "stack": "megatron"}, "did you mean megatron-2021, megatron-2025"),
    ({**H100, "gpus": "8", "fix": "tp=0"}, "fix tp"),
    ({**H100, "gpus": "8", "catalog_file": "/etc/passwd"}, "unknown key of a scenario"),
    ({**H100, "gpus": "8", "colour": "red"}, "unknown key of a scenario 'colour'"),
    ({"compare": ["s=1"]}, "compare takes 2 addresses"),
    ({"compare": 7}, "compare takes 2 addresses"),
    ({"compare": [1, 2]}, "compare takes addresses as text"),
    ({"compare": ["a", "b"], **H100}, "compare stands alone"),
    ({"compare": ["x" * 3000, "s=1"]}, "at most 2,000 characters"),
]


@pytest.mark.parametrize(("asked", "said"), BAD, ids=lambda it: str(it)[:50])
def test_a_bad_question_is_one_line_that_helps(live, asked, said):
    with pytest.raises(InputError) as refused:
        live.reply(asked)
    line = str(refused.value)
    assert said in line
    assert len(line) <= 240
    assert "\n" not in line


@pytest.mark.parametrize("place", ["config.json", ".", "./config.json", "~", "{folder}"])
def test_no_name_reads_a_file(live, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    for key in ("model", "gpu", "fabric", "wan"):
        with pytest.raises(UnknownName):
            live.answer({**H100, "gpus": "8", key: place.format(folder=tmp_path)})


def test_the_causes_are_those_of_crore_compare(live, capsys):
    names = ("llama-3.1-8b:gpus=64", "llama-3.1-8b:gpus=256,gpu=h200-sxm")
    assert run(["compare", *names, "--gpu", "h100-sxm"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    made = live.compare([
        "#s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64",
        "s=1;model=llama-3.1-8b;gpu=h200-sxm;gpus=256",
    ])  # fmt: skip
    assert made["causes"]
    for line in made["causes"]:
        assert " ".join(line.split()) in printed
    for row in made["table"]["rows"]:
        assert len(row) == len(made["table"]["head"]) == 3
        assert " ".join(row[0].split()) in printed
    assert made["table"]["rows"][0][0] == "days"


def test_there_is_no_comparison_without_a_plan(live):
    with pytest.raises(Infeasible, match="B has no plan"):
        live.compare([
            "s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64",
            "s=1;model=llama-3.1-405b;gpu=rtx-3090;gpus=1",
        ])  # fmt: skip


def test_the_page_offers_what_the_planner_takes(live):
    offered = choices(live)
    assert {"llama3-8b", "deepseek-v3"} <= set(offered["models"])
    assert "rtx-3090" in offered["gpus"]
    assert "this-machine" not in offered["gpus"]


def test_an_answer_is_searched_for_once_whatever_its_names(live, monkeypatch):
    first = live.answer({**H100, "gpus": "72"})
    monkeypatch.setattr(live_module, "sweep", None)
    again = live.answer({"model": "LLaMA-3.1-8B ", "gpu": "h100", "gpus": "72"})
    assert again["days"] == first["days"]


def test_the_cache_has_an_end(swept, sheet, monkeypatch):
    monkeypatch.setattr(live_module, "KEPT", 2)
    fresh = live_of(swept, sheet["points"])
    for gpus in ("1", "8", "64", "4096"):
        fresh.answer(own(gpus=gpus))
    assert len(fresh._kept) == 2
    assert fresh.answer(own(gpus="8"))["gpus"] == 8


def test_a_search_without_end_is_given_up(live, monkeypatch):
    monkeypatch.setattr(live_module, "BUDGET_S", 0.0)
    with pytest.raises(InputError, match="the search took more than 0 s of CPU time"):
        live.answer({"model": "llama-3.1-70b", "gpu": "h200-sxm", "gpus": "640"})
    monkeypatch.undo()
    assert live.answer({"model": "llama-3.1-70b", "gpu": "h200-sxm", "gpus": "640"})["used"] == 640


def test_searches_end_with_the_server(swept, sheet):
    leaving = live_of(swept, sheet["points"])
    leaving.stop()
    with pytest.raises(InputError):
        leaving.answer({"model": "llama-3.1-70b", "gpu": "h200-sxm", "gpus": "648"})
    assert leaving._kept == {}


def test_several_threads_get_what_one_gets(live, swept, sheet):
    asked = [{**H100, "gpus": str(8 * k)} for k in range(1, 9)] * 2
    found: dict[int, object] = {}
    fresh = live_of(swept, sheet["points"])

    def ask(k: int) -> None:
        found[k] = fresh.answer(asked[k])

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[k] for k in range(len(asked))] == [live.answer(it) for it in asked]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["compare", *KEYS, "limits", "__class__"]),
        st.one_of(
            st.text(max_size=40), st.integers(), st.none(), st.lists(st.text(max_size=9)),
            st.sampled_from(["llama-3.1-8b", "h100-sxm", "64", "1e999", "tp=8,tp=9", "<script>"]),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_whatever_is_asked_the_answer_is_json_or_one_line(live, asked):
    line = told(live, asked)
    assert len(line) <= 240
    assert len(line.splitlines()) <= 1


def told(live, asked) -> str:
    """Return the line that refuses a question, nothing for one that is answered."""
    try:
        assert json.dumps(live.reply(asked), allow_nan=False)
    except CroreError as error:
        return str(error)
    return ""
