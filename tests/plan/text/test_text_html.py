"""A notebook shows the verdict and the tables, and runs nothing."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from crore.plan import PlanRequest, compare, make_plan, render, render_comparison
from crore.plan.record import verdict


class Reader(HTMLParser):
    """Collects tags and text; checks that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def answer():
    return make_plan(PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=8, tokens=10**12))


def test_a_notebook_shows_the_verdict_the_layout_and_where_time_and_memory_go(answer):
    reader = read(answer._repr_html_())
    plan = answer.plan
    assert reader.words[0] == verdict(plan)
    assert {"layout", "time of a step", "memory"} <= set(reader.words)
    parts = {**plan.step_split_s, **plan.memory_split_bytes}
    assert {name for name, part in parts.items() if part} <= set(reader.words)
    assert "stragglers" in reader.words
    assert "bubble" not in reader.words  # there is no pipeline
    assert str(plan.layout["tp"]) in reader.words


def test_it_holds_no_script_and_loads_nothing(answer):
    assert read(answer._repr_html_()).tags <= {
        "div", "p", "b", "br", "table", "caption", "tr", "th", "td",
        "svg", "title", "desc", "rect", "text", "polyline", "path",
    }  # fmt: skip


def test_a_name_is_never_markup(answer):
    plan = answer.plan
    model = replace(plan.question.model, name="<script>x</script>")
    named = replace(plan, question=replace(plan.question, model=model))
    html = replace(answer, plans=(named,))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_notebook_without_html_gets_the_text(answer):
    assert answer._repr_mimebundle_(include=None, exclude=None) == {
        "text/plain": render(answer), "text/html": answer._repr_html_(),
    }  # fmt: skip
    both = compare([answer, answer], ["one", "two"])
    assert both._repr_mimebundle_()["text/plain"] == render_comparison(both)
    read(both._repr_mimebundle_()["text/html"])
