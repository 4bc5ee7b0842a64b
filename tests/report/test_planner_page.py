"""The page with the real planner behind it: typed, answered, compared, refused, and left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.cli.planner_served import planner, write_sweep
from tests.report.small_sweep import REQUEST, small_sweep
from tests.report.test_page import MOVE

from crore.report.live import live_of
from crore.report.scenario import scenario_of
from crore.report.sheet import sheet_of


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def server(sweep_file):
    with planner(str(sweep_file)) as running:
        yield running


@pytest.fixture(scope="module")
def known():
    swept = small_sweep()
    return live_of(swept, sheet_of(swept, "mission")["points"])


def enter(tab, key: str, typed: str) -> None:
    """Type into a field and leave it."""
    tab.locator(f"#{key}").fill(typed)
    tab.locator(f"#{key}").press("Enter")


def wait(tab, key: str, words: str) -> None:
    """Wait until an element says the words."""
    said = "([key, words]) => document.getElementById(key).textContent.includes(words)"
    tab.wait_for_function(said, arg=[key, words])


def test_what_is_typed_is_answered_and_shown(server, known, visit):
    tab = visit(server.url, offline=False)
    enter(tab, "gpus", "100")
    wait(tab, "count", "100 GPUs")
    answer = known.answer({**scenario_of(REQUEST), "gpus": "100"})
    shown = tab.locator("#facts").text_content()
    for _, value, span, _, _ in answer["facts"]:
        assert value in shown
        assert span in shown
    assert answer["layout"] in tab.locator("#layout").text_content()
    assert "gpus=100" in tab.evaluate("location.hash")
    assert tab.locator("#plot-memory svg").count() >= 1


def test_another_gpu_and_model_are_answered(server, known, visit):
    tab = visit(server.url, offline=False)
    for key, typed in (("gpu", "rtx-3090"), ("model", "smollm2-135m")):
        enter(tab, key, typed)
        changed = {**scenario_of(REQUEST), "gpu": "rtx-3090"} | {key: typed}
        wait(tab, "verdict", known.answer(changed)["facts"][0][1])
    assert "model=smollm2-135m" in tab.evaluate("location.hash")


def test_an_address_gives_the_same_answer_again(server, visit):
    tab = visit(server.url, offline=False)
    enter(tab, "gpus", "1.5k")
    wait(tab, "count", "1,500 GPUs")
    before = tab.locator("#facts").text_content()
    again = visit(server.url, tab.evaluate("location.hash"), offline=False)
    wait(again, "count", "1,500 GPUs")
    assert again.locator("#facts").text_content() == before


def test_who_rents_by_the_address_sees_no_purchase(server, visit):
    tab = visit(server.url, "#s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64", offline=False)
    assert "To buy it all".lower() in tab.locator("#facts").text_content()
    rented = "#s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64;basis=rented"
    tab = visit(server.url, rented, offline=False)
    gone = "() => !document.getElementById('facts').textContent.includes('to buy it all')"
    tab.wait_for_function(gone)
    enter(tab, "gpus", "128")
    wait(tab, "count", "128 GPUs")
    shown = tab.locator("#facts").text_content()
    assert "moved most by what a rental costs" in shown
    assert "to buy it all" not in shown
    assert "rented, it would be" not in shown
    assert "basis=rented" in tab.evaluate("location.hash")


@pytest.mark.parametrize(
    ("key", "typed", "said"),
    [
        ("gpu", "h100-smx", "did you mean h100-sxm"),
        ("model", "meta-llama/Llama-9", "crore catalog models"),
        ("gpus", "-5", "did you mean 5?"),
        ("model", "</script><script>document.title='owned'</script>", "unknown model"),
        ("model", "../../etc/passwd", "unknown model"),
        ("tokens", "1", "shorter than one step"),
    ],
)
def test_bad_input_is_one_line_and_the_page_stays(server, visit, key, typed, said):
    tab = visit(server.url, offline=False, errors_expected=True)  # Chromium logs the 400
    before, title = tab.locator("#verdict").text_content(), tab.title()
    enter(tab, key, typed)
    wait(tab, "refused", said)
    assert len(tab.locator("#refused").text_content()) <= 240
    assert tab.locator("#verdict").text_content() == before
    assert tab.title() == title


def test_an_impossible_target_is_shown_as_such(server, visit):
    tab = visit(server.url, "#s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=8", offline=False)
    enter(tab, "model", "llama-3.1-405b")
    wait(tab, "badge", "Does not fit")
    assert "such GPUs hold it" in tab.locator("#change").text_content()


def test_two_pins_get_their_causes(server, visit):
    tab = visit(server.url, offline=False)
    for gpus in ("64", "128"):
        enter(tab, "gpus", gpus)
        wait(tab, "count", f"{gpus} GPUs")
        tab.locator("#pin").click()
    wait(tab, "causes", "B takes 0.5")
    assert "residual" in tab.locator("#causes").text_content()


def test_a_planner_killed_while_one_drags_is_said_so_and_the_grid_still_moves(sweep_file, visit):
    with planner(str(sweep_file), code=-signal.SIGKILL) as running:
        tab = visit(running.url, offline=False, errors_expected=True)
        enter(tab, "model", "mistral-7b")
        wait(tab, "status", "")
        for position in (0, 1):
            tab.evaluate(MOVE, position)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(timeout=120)
        tab.evaluate(MOVE, 2)
        tab.locator("#dead").wait_for(state="visible")
        for position, count in ((3, "4,096 GPUs"), (1, "8 GPUs"), (4, "10,000,000 GPUs")):
            tab.evaluate(MOVE, position)
            assert tab.locator("#count").text_content() == count
        assert tab.locator("#dead").is_visible()
