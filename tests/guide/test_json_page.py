"""The page on JSON shows every schema as a table, and its code runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from crore.cli import run

Json = dict[str, Any]
PAGE = (Path(__file__).parents[2] / "docs/guide/json.md").read_text(encoding="utf-8")
KINDS = (
    "plan",
    "compare",
    "explain",
    "check",
    "fit",
    "validate",
    "prediction",
    "run",
    "simulation",
    "supply",
    "sites",
    "launch",
    "rehearsal",
    "catalog",
    "report",
    "replay",
)
HEAD = ("schema", "crore", "command", "constants_sha256")
UNIT = re.compile(r"(.*) \[(.+)\]", re.S)
TOP = ["| key | type | unit | meaning |", "|---|---|---|---|"]


def schema_of(kind: str) -> Json:
    """Return a shipped schema."""
    text = (files("crore") / "schemas" / f"{kind}.json").read_text(encoding="utf-8")
    made: Json = json.loads(text)
    return made


def table(kind: str) -> list[str]:
    """Return the lines that the page must hold for one schema, the head's keys left out."""
    schema = schema_of(kind)
    return [*TOP, *(line for key, line in Table(schema).rows(schema) if key not in HEAD)]


class Table:
    """One schema's keys as rows; what is shown once is referred to."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.shown: dict[str, str] = {}

    def rows(self, schema: Json, at: str = "", where: str = "#") -> Iterator[tuple[str, str]]:
        """Yield (dotted key, its line) for everything below a schema."""
        for key, inner in schema.get("properties", {}).items():
            yield from self.row(f"{at}{key}", inner, f"{where}/properties/{key}")
        if isinstance(values := schema.get("additionalProperties"), dict):
            yield from self.row(f"{at}*", values, f"{where}/additionalProperties")
        if "items" in schema:
            yield from self.rows(schema["items"], f"{at.removesuffix('.')}[].", f"{where}/items")
        reference = schema.get("$ref", "")
        if reference.startswith("#") and reference not in self.shown:
            self.shown[reference] = at.removesuffix(".")
            yield from self.rows(self.target(reference), at, reference)
        for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            if "title" in branch:
                yield "", f"| *{branch['title']}* | | | {branch['description']} |"
            yield from self.rows(branch, at, where)

    def row(self, key: str, schema: Json, where: str) -> Iterator[tuple[str, str]]:
        """Yield the line of one key, then those below it."""
        reference = schema.get("$ref", "")
        local = reference.startswith("#")
        whole = {**self.target(reference), **schema} if local else schema
        meaning, unit = whole["description"], ""
        if found := UNIT.fullmatch(meaning):
            meaning, unit = found[1], found[2]
        if "enum" in whole:
            meaning += f" ({', '.join(whole['enum'])})"
        if again := self.shown.get(reference) or self.items_shown(schema):
            meaning += f"; as `{again}`"
        self.shown.setdefault(where, key)
        yield (
            key,
            f"| `{key}` | {self.type_of(whole)} | {unit} | {meaning} |".replace("|  |", "| |"),
        )
        yield from self.rows(schema, f"{key}.", where)

    def items_shown(self, schema: Json) -> str:
        """Return the key under which a list's entries are shown already, if so."""
        return self.shown.get(schema.get("items", {}).get("$ref", ""), "")

    def type_of(self, schema: Json) -> str:
        """Return a schema's type in a word or two."""
        if "anyOf" in schema:
            kinds = dict.fromkeys(self.type_of(branch) for branch in schema["anyOf"])
            return " or ".join(sorted(kinds, key=lambda kind: kind == "null"))
        if "items" in schema:
            return f"list of {self.type_of(schema['items'])}"
        kinds = schema.get("type", "object")
        return kinds if isinstance(kinds, str) else " or ".join(kinds)

    def target(self, reference: str) -> Json:
        """Return what a reference into the same schema stands for."""
        found: Any = self.root
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        made: Json = found
        return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_schemas_table_is_on_the_page(kind):
    title = schema_of(kind)["title"]
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    expected = table(kind)
    assert shown == expected, f"the table below ## {title} must read\n\n" + "\n".join(expected)


def test_the_head_is_on_the_page():
    schema = schema_of("plan")
    lines = dict(Table(schema).rows({"properties": schema["properties"]}))
    assert "\n".join([*TOP, *(lines[key] for key in HEAD)]) in PAGE


def test_no_line_is_broken_by_a_bar_in_its_text():
    for kind in KINDS:
        assert all(line.count("|") == 5 for line in table(kind))


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^crore (.*-o plan\.json)$", PAGE, re.M)
    assert run(commands[0].split()) == 0
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S):
        exec(compile(block, "json.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.endswith("plan.json is a crore.plan/1\n")
