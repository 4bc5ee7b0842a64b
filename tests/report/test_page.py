"""The page in a browser, opened from disk and offline: it says what its sheet says, and moves."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from tests.report.conftest import write
from tests.report.small_sheet import NASTY, small_sheet

NUMERAL = re.compile(r"\d[\d,.]*\d|\d")
LAST = 70
SEEN = """() => {
  const texts = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const home = walk.currentNode.parentElement;
    if (!["SCRIPT", "STYLE", "OPTION"].includes(home.tagName) && home.checkVisibility())
      texts.push(walk.currentNode.data);
  }
  for (const box of document.querySelectorAll("input:not([type=range])")) texts.push(box.value);
  for (const named of document.querySelectorAll("[aria-label], [aria-valuetext]"))
    texts.push(named.ariaLabel ?? "", named.ariaValueText ?? "");
  return texts;
}"""
"""Every text that a reader sees, hears or can touch."""
MOVE = """(position) => {
  const slider = document.getElementById("slider");
  slider.value = position;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
DRAG = f"""async (last) => {{
  const found = [];
  const text = (id) => [id, document.getElementById(id).textContent];
  for (let position = 0; position <= last; position++) {{
    await ({MOVE})(position);
    const shown = Object.fromEntries(["count", "verdict", "badge", "facts"].map(text));
    const {{ state }} = document.getElementById("badge").dataset;
    found.push({{ seen: ({SEEN})(), state, shown }});
  }}
  return found;
}}"""
"""The slider at every position, and what is to be seen at each."""


def numerals(value: Any) -> set[str]:
    """Return the numerals of every text of a record: none is made of its bare numbers."""
    if isinstance(value, str):
        return set(NUMERAL.findall(value))
    if isinstance(value, dict):
        return set().union(*(numerals(one) for one in [*value, *value.values()]))
    return set().union(*(numerals(one) for one in value)) if isinstance(value, list) else set()


def whole(sheet, position):
    """Return the point of a position, with what it takes from another."""
    point = sheet["points"][sheet["positions"][position]]
    return {**(sheet["points"][point["like"]] if "like" in point else {}), **point}


def text(tab, key):
    """Return the text of an element by its id."""
    return tab.locator(f"#{key}").text_content()


@pytest.mark.parametrize("which", ["small", "real"])
def test_at_every_position_the_page_says_what_its_sheet_says(which, visit, request):
    tab = visit(request.getfixturevalue(f"{which}_file"))
    sheet = json.loads(tab.locator("#sheet").text_content())
    known = numerals(sheet)
    for position, at in enumerate(tab.evaluate(DRAG, LAST)):
        point, shown = whole(sheet, position), at["shown"]
        assert set(NUMERAL.findall("\n".join(at["seen"]))) <= known
        assert at["state"] == point["state"]
        assert shown["count"] == point["aria"]
        assert shown["verdict"]
        assert point["verdict"].endswith(shown["verdict"])
        if point["memory"]:
            fits = point["memory"]["used"] <= point["memory"]["usable"]
            assert fits == (at["state"] in ("fits", "idle"))
            assert ("Does not fit" in shown["badge"]) == (not fits)
        for label, value, span, evidence, why in point["facts"]:
            card = "".join([sheet["facts"].get(label, label), value, span, evidence, why])
            assert card in shown["facts"]


def test_axes_stay_while_the_slider_moves(visit, small_file):
    tab = visit(small_file)
    for key in ("memory", "step", "goodput", "pareto", "supply", "power"):
        tab.locator(f"#fig-{'supply' if key == 'power' else key}").scroll_into_view_if_needed()
        ticks = tab.locator(f'#plot-{key} g[fill="var(--soft)"]')
        found = set()
        for position in (20, 45, 68):
            tab.evaluate(MOVE, position)
            found.add("".join(ticks.evaluate_all("all => all.map((g) => g.outerHTML)")))
        [axes] = found
        assert axes.count("<text") > 4


def test_what_is_extrapolated_is_hatched_and_said_and_not_by_colour_alone(visit, small_file):
    tab = visit(small_file)
    for key in ("goodput", "power"):
        tab.locator(f"#fig-{'supply' if key == 'power' else key}").scroll_into_view_if_needed()
        assert tab.locator(f'#plot-{key} [fill="url(#beyond)"]').count() == 1
        assert "extrapolated" in tab.locator(f"#plot-{key} svg").text_content()
    assert "peak" in tab.locator("#plot-power svg").text_content()
    tab.locator("#fig-pareto").scroll_into_view_if_needed()
    shapes = tab.locator('#plot-pareto g[stroke="var(--c0)"] path').count()
    assert 0 < shapes < len(small_sheet()["points"])  # diamonds are paths, circles are not
    for key in ("goodput", "pareto", "supply"):
        words = tab.locator(f"#fig-{key} figcaption").text_content()
        assert "xtrapolated (10,000 to 10,000,000 GPUs)" in words


def test_every_tick_of_the_sheet_that_has_room_is_written(visit, tmp_path):
    sheet = small_sheet()
    ticks = [[k * 10.0**i, f"{k} e{i}"] for i in range(2, 5) for k in (1, 2, 5)]
    sheet["axes"]["usd"] = {**sheet["axes"]["usd"], "domain": [100.0, 50_000.0], "ticks": ticks}
    written = visit(write(tmp_path, sheet)).locator("#plot-pareto g[text-anchor=end] text")
    assert {text for _, text in ticks} <= set(written.all_text_contents())


def test_keys_move_a_tenth_of_a_decade_and_a_decade(visit, small_file):
    tab = visit(small_file)
    at = lambda: int(tab.locator("#slider").input_value())  # noqa: E731
    tab.evaluate(MOVE, 30)
    tab.locator("#slider").focus()
    for key, expected in (
        ("ArrowRight", 31), ("ArrowLeft", 30), ("PageUp", 40), ("PageDown", 30), ("End", LAST),
        ("ArrowRight", LAST), ("Home", 0), ("ArrowLeft", 0), ("PageUp", 10),
    ):  # fmt: skip
        tab.keyboard.press(key)
        tab.wait_for_function("(at) => document.getElementById('slider').value == at", arg=expected)
        assert at() == expected
    point = whole(small_sheet(), 10)
    assert tab.locator("#slider").get_attribute("aria-valuetext") == point["aria"]


def test_keys_jump_pin_and_help_and_leave_typing_alone(visit, small_file):
    tab = visit(small_file)
    for digit, key in enumerate(
        ("memory", "step", "goodput", "pareto", "supply", "fabric", "timeline")
    ):
        tab.keyboard.press(str(digit + 1))
        assert tab.evaluate("document.activeElement.id") == f"fig-{key}"
    tab.keyboard.press("c")
    assert tab.locator("#pins thead th").count() == 1
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "gpus"
    tab.keyboard.type("1c7")
    assert tab.locator("#gpus").input_value() == "1c7"
    assert tab.locator("#pins thead th").count() == 1


def test_what_has_the_focus_is_framed(visit, small_file):
    tab = visit(small_file)
    for _ in range(12):
        tab.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert tab.evaluate(style) not in ("none", "")


def test_an_address_brings_back_what_was_seen(visit, small_file):
    first = visit(small_file)
    first.evaluate(MOVE, 52)
    first.keyboard.press("c")
    first.evaluate(MOVE, 63)
    first.keyboard.press("c")
    first.wait_for_function("location.hash.includes('pins')")
    address = first.evaluate("location.hash")
    assert len(address) <= 2_000
    second = visit(small_file, address)
    for key in ("count", "verdict", "facts", "pins", "twin-memory", "fig-pareto"):
        assert text(second, key) == text(first, key)
    assert second.evaluate("location.hash") == address


def test_a_pin_of_another_scenario_is_said_to_need_the_server(visit, small_file):
    tab = visit(small_file, "#s=1;gpus=1000;pins=16,gpus%3D20%3Bmodel%3Dlarge")
    assert tab.locator("#pins table").first.locator("thead th").count() == 1
    assert "crore serve --planner answers it" in text(tab, "status")


@pytest.mark.parametrize(
    "hash_", ["#s=1;gpus=%", "#s=1;gpus=abc", "#s=2", "#s=1;=;;x", "#" + "s" * 9_000]
)
def test_a_broken_address_changes_nothing(hash_, visit, small_file):
    tab = visit(small_file, hash_)
    assert text(tab, "count") == "16 GPUs"


def test_an_address_of_another_scenario_is_named_as_text(visit, small_file):
    tab = visit(small_file, f"#s=1;model={quote(NASTY)};gpus=1000")
    assert f"model {NASTY}" in text(tab, "status")
    assert text(tab, "count") == "1,000 GPUs"
    assert tab.title() == "A small sheet"


def test_a_number_typed_goes_to_the_nearest_count_and_says_so(visit, small_file):
    tab = visit(small_file)
    for typed, shown, said in (
        ("1M", "1,000,000 GPUs", ""), ("16", "16 GPUs", ""), ("1e3", "1,000 GPUs", ""),
        ("1,100", "1,000 GPUs", "1,000 GPUs"), ("99 M", "10,000,000 GPUs", "10,000,000 GPUs"),
    ):  # fmt: skip
        tab.locator("#gpus").fill(typed)
        tab.locator("#gpus").press("Enter")
        assert text(tab, "count") == shown
        assert text(tab, "status").endswith(f"{said}." if said else "")
    for typed in ("-5", "0", "many", ""):
        tab.locator("#gpus").fill(typed)
        tab.locator("#gpus").press("Enter")
        assert "whole number" in text(tab, "refused")
        assert text(tab, "count") == "10,000,000 GPUs"


def test_four_points_stand_side_by_side_and_a_fifth_is_refused(visit, small_file):
    tab = visit(small_file)
    for position in (0, 12, 40, 66, 70):
        tab.evaluate(MOVE, position)
        tab.locator("#pin").click()
    heads = tab.locator("#pins table").first.locator("thead th").all_inner_texts()
    assert [head.split("✕")[0].strip() for head in heads] == [
        "1 GPUs",
        "16 GPUs",
        "10,000 GPUs",
        "3,981,072 GPUs",
    ]
    assert "unpin" in text(tab, "status")
    assert tab.locator("#pins tr.differs").count() > 2
    tab.locator("#pins button").first.click()
    assert tab.locator("#pins table").first.locator("thead th").count() == 3


def test_markup_in_the_sheet_is_text_in_the_page(visit, tmp_path):
    sheet = small_sheet(NASTY, note=NASTY, summary=[NASTY], not_modelled=[NASTY])
    sheet["scenario"]["model"] = NASTY
    for point in sheet["points"]:
        point.update(verdict=f"FITS  {NASTY}", limit=NASTY, layout=NASTY, news=[NASTY])
        for tier in point["fabric"]:
            tier.update(tier=NASTY, axes=NASTY)
    tab = visit(write(tmp_path, sheet))
    for position in (10, 40):
        tab.evaluate(MOVE, position)
        tab.keyboard.press("c")
    tab.wait_for_timeout(300)
    assert tab.title() == NASTY
    assert text(tab, "layout") == NASTY
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 3


def test_a_plan_alone_has_no_slider(visit, tmp_path):
    sheet = small_sheet(kind="plan", run=None, supply=None, timeline=None, launch=[], presets=[])
    sheet |= {"own": 0, "positions": [0], "points": [sheet["points"][20]]}
    tab = visit(write(tmp_path, sheet))
    assert not tab.locator("#bar").is_visible()
    assert text(tab, "count") == sheet["points"][0]["aria"]
