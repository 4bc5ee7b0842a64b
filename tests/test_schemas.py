"""`--json` of every command is one document on stdout that its schema describes, key by key."""

from __future__ import annotations

import copy
import hashlib
import json
import shlex
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from crore import __version__
from crore.cli import run
from crore.cli.document import constants_sha256

Json = dict[str, Any]
RUNS = Path(__file__).parent / "published" / "runs.jsonl"
FOLDER = files("crore") / "schemas"
SCHEMAS: dict[str, Json] = {
    Path(entry.name).stem: json.loads(entry.read_text(encoding="utf-8"))
    for entry in FOLDER.iterdir()
}
HEAD = ["schema", "crore", "command", "constants_sha256"]
VERBS = (
    "plan", "compare", "explain", "check", "fit", "validate", "catalog", "simulate", "rehearse",
    "supply", "sites",
)  # fmt: skip
DOCUMENTS = {verb: verb for verb in VERBS} | {
    "simulate": "simulation", "rehearse": "rehearsal",
}  # fmt: skip
"""What a verb prints."""
REGISTRY: Registry[Json] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)

PLANS = {
    "dense": "llama-3.1-8b --gpu h100-sxm --gpus 16 --tokens 100B",
    "experts": "deepseek_v3",
    "chosen network": "llama-3.1-70b --gpu h100-sxm --gpus 1024",
    "one 3090": "qwen2.5-0.5b --gpu rtx-3090 --gpus 1 --tokens 1B",
    "no price": "gpt2 --gpu mi355x --gpus 8 --tokens 1B",
    "fleet": "ten_million",
    "experts' fleet": "ten_million_moe",
    "top": "llama-3.1-8b --gpu h100-sxm --gpus 16 --top 3",
    "pareto": "llama-3.1-8b --gpu h100-sxm --gpus 16 --objective pareto",
    "cheapest": "llama-3.1-8b --gpu h100-sxm --gpus 16 --objective cheapest",
    "named network": "llama-3.1-8b --cluster dgx-h100-16k --gpus 64",
    "pinned": "llama-3.1-8b --gpu h100-sxm --gpus 16 --fix tp=2,recompute=full --limit days=900",
}
OTHERS = {
    "compare": "compare llama-3.1-8b llama-2-7b:seq_len=4096 --gpu h100-sxm --gpus 16",
    "compare unpriced": "compare gpt2 gpt2:gpu=mi355x --gpu h100-sxm --gpus 8 --tokens 1B",
    "explain list": "explain plan.json",
    "explain prefix": "explain plan.json step_split_s",
    "explain number": "explain plan.json step_split_s.dp",
    "explain input": "explain plan.json tokens",
    "explain fit": "explain fit.json",
    "explain fit's money": "explain fit.json tuning.QLoRA_nf4.cost_usd.p50",
    "explain price": "explain plan.json economy.usd",
    "check good": "check llama3_405b",
    "check infeasible": "check baichuan13b_3090",
    "check bad": "check bad.toml",
    "fit": "fit baichuan-13b --gpu rtx-3090",
    "fit two": "fit gpt2-124m --gpu t4 --gpus 2",
    "fit asked": "fit gpt2-124m --gpu t4 --context 1024 --tokens 1M --catalog own.toml",
    "validate": f"validate {RUNS}",
    "validate unmeasured": "validate unmeasured.jsonl",
    "gpus": "catalog gpus",
    "models": "catalog models",
    "fabrics": "catalog fabrics",
    "clusters": "catalog clusters",
    "one gpu": "catalog gpus h100-sxm",
    "simulate": "simulate fleet.json --draws 20",
    "simulate known": "simulate llama3_405b --draws 20 --hazard 1 --seed 7",
    "supply": "supply --scenario announced --units 1M --h100e 10M --draws 20",
    "sites": "sites fleet.json --carbon-price 50",
    "supply never": "supply --scenario article --units 10M --draws 20 --attrition 0.05",
    "supply mission": "supply plan.json --draws 20",
    "simulate stands still": "simulate fleet.json --draws 20 --policy restart-disk",
    "rehearse": "rehearse ranks.json --rank 3",
    "rehearse fleet": "rehearse ranks.json --rank 43 --worlds 6 --islands 2 --agree one",
    "rehearse refused": "rehearse tight.json --agree one",
}
CASES = {**{name: f"plan {words}" for name, words in PLANS.items()}, **OTHERS}
EXIT = {
    "check infeasible": 1, "check bad": 2, "rehearse refused": 1, "simulate stands still": 1,
    "supply never": 1,
}  # fmt: skip
RANKS = (
    "nano-5m --gpu h100-sxm --gpus 8 --stack crore --precision fp32 --seq-len 128 --global-batch 8 "
    "--tokens 1B --fix pp=2,tp=2,schedule=1f1b,zero=1,recompute=none,micro_batch=1"
)
"""A plan to rehearse."""
PROMISED = {
    "": "verdict model gpu gpus worlds islands stack layout global_batch_tokens step_time_s "
    "step_split_s tokens_per_s mfu hfu memory_bytes_per_gpu memory_split_bytes goodput days fabric "
    "limits evaluated rejected search_cpu_s cost_usd capital_usd power_w energy_j co2_kg sites "
    "ready_year",
    "layout": "pp vpp schedule dp_replicate dp_shard zero cp tp ep micro_batch recompute precision",
    "step_time_s": "value low high evidence",
    "days": "value low high",
}
"""Keys of a plan that others build on."""


def whole(schema: Json) -> jsonschema.Draft202012Validator:
    """Return a validator that knows the other schemas."""
    return jsonschema.Draft202012Validator(schema, registry=REGISTRY)


def refused(document: Json) -> str:
    """Return what a document's schema says against it; empty for nothing."""
    kind = document["schema"].removeprefix("crore.").partition("/")[0]
    found = [
        f"{error.json_path}: {error.message}"
        for error in whole(SCHEMAS[kind]).iter_errors(document)
    ]
    return "\n".join(found)


def strict(text: str) -> Json:
    """Parse one JSON document; Python's own NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document: Json = json.loads(text, parse_constant=refuse)
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Plans to explain and to rehearse, a mission that is wrong, a run without measurements."""
    made: Path = tmp_path_factory.mktemp("schemas")
    assert run(["plan", *PLANS["dense"].split(), "-o", str(made / "plan.json")]) == 0
    assert run(["plan", *RANKS.split(), "-o", str(made / "ranks.json")]) == 0
    assert run(["plan", *PLANS["fleet"].split(), "-o", str(made / "fleet.json")]) == 0
    assert run(["fit", "gpt2-124m", "--gpu", "rtx-3090", "-o", str(made / "fit.json")]) == 0
    ranks = strict((made / "ranks.json").read_text(encoding="utf-8"))
    tight = json.dumps({**ranks, "memory_capacity_bytes": 1e6})
    (made / "tight.json").write_text(tight, encoding="utf-8")
    (made / "own.toml").write_text("", encoding="utf-8")
    (made / "bad.toml").write_text('model = "gpt2"\n[cluster]\ngpu = "h1000"\n', encoding="utf-8")
    first = json.loads(RUNS.read_text(encoding="utf-8").partition("\n")[0])
    first.pop("step_time_s", None)
    first.pop("measured", None)
    (made / "unmeasured.jsonl").write_text(json.dumps(first) + "\n", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def document(folder):
    """Return the document of a case, made once, with what it left on the two streams checked."""
    made: dict[str, Json] = {}

    def of(name: str, capsys: pytest.CaptureFixture[str]) -> Json:
        if name not in made:
            capsys.readouterr()
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                assert run([*CASES[name].split(), "--json"]) == EXIT.get(name, 0)
            out, err = capsys.readouterr()
            assert err == ""
            made[name] = strict(out)
        return made[name]

    return of


@pytest.mark.parametrize("name", CASES)
def test_a_document_is_as_its_schema_says(name, document, capsys):
    found = document(name, capsys)
    assert refused(found) == ""
    kind = DOCUMENTS[CASES[name].split()[0]]
    assert list(found)[:4] == HEAD
    assert found["schema"] == SCHEMAS[kind]["title"]
    assert found["crore"] == __version__
    assert found["command"] == f"crore {shlex.join(CASES[name].split())} --json"
    assert found["constants_sha256"] == constants_sha256()


def test_the_cases_reach_every_key(document, capsys):
    """No key of a schema that no document has, and none that is only ever null."""
    seen: set[str] = set()
    for name in CASES:
        found = document(name, capsys)
        seen |= set(keys_of(found, DOCUMENTS[CASES[name].split()[0]]))
    expected = {key for kind in DOCUMENTS.values() for key in described(SCHEMAS[kind], kind)}
    # An input's effect is tried of movers alone, which are inputs too.
    assert expected - seen == {"explain.inputs[].effect"}


def keys_of(value: Any, at: str) -> Iterator[str]:
    """Yield the dotted keys of a document that hold something."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is not None:
                yield f"{at}.{key}"
                yield from keys_of(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{at}[]")


def described(schema: Json, at: str) -> Iterator[str]:
    """Yield the dotted keys that a schema names; those of a map are the document's own."""
    for key, _ in properties(schema, schema):
        yield f"{at}.{key}"


def properties(schema: Json, root: Json, at: str = "") -> Iterator[tuple[str, Json]]:
    """Yield (dotted key, its schema), references within the file followed."""
    for key, inner in schema.get("properties", {}).items():
        yield f"{at}{key}", resolved(inner, root)
        yield from properties(inner, root, f"{at}{key}.")
    if "items" in schema:
        yield from properties(schema["items"], root, f"{at.removesuffix('.')}[].")
    if str(schema.get("$ref", "")).startswith("#/"):
        target = resolved(schema, root)
        yield from properties({k: v for k, v in target.items() if k != "$ref"}, root, at)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from properties(branch, root, at)


def resolved(schema: Json, root: Json) -> Json:
    """Return a schema with its reference into the same file laid under it."""
    reference = str(schema.get("$ref", ""))
    if not reference.startswith("#/"):
        return schema
    target: Any = root
    for step in reference.removeprefix("#/").split("/"):
        target = target[step]
    return {**target, **schema}


def objects(schema: Any) -> Iterator[Json]:
    """Yield every part of a schema that describes an object."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema.get("type", ""), str | list):
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_valid_and_describes_every_key(kind):
    schema = SCHEMAS[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    numbers = {"number", "integer"}
    for key, inner in properties(schema, schema):
        assert inner.get("description"), f"{key} has no description"
        types = inner.get("type", [])
        if numbers & set([types] if isinstance(types, str) else types):
            assert inner["description"].endswith("]"), f"{key} has no unit"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_leaves_no_key_open(kind):
    """Each object requires all its keys and takes no other; a catalogue holds one kind of entry."""
    schema = SCHEMAS[kind]
    for one in objects(schema):
        keys, required = list(one["properties"]), one.get("required", [])
        own = [key for key in keys if key not in ("gpus", "models", "fabrics", "clusters")]
        assert required == (own if one is schema and kind == "catalog" else keys)
    closed = [one for one in objects(schema) if one.get("additionalProperties") is False]
    ends = {"plan": 1, "explain": 2}  # the body under the head, and each of the two bodies
    inner = len(list(objects(schema))) - len(closed)
    assert inner == ends.get(kind, 0) + (schema.get("unevaluatedProperties") is False)


def test_every_command_has_its_schema():
    assert SCHEMAS.keys() == {
        *DOCUMENTS.values(), "prediction", "run", "launch", "tune", "answer", "report", "replay",
    }  # fmt: skip
    for kind, schema in SCHEMAS.items():
        assert schema["title"].startswith(f"crore.{kind}/")
        assert schema["$id"] == f"urn:{schema['title'].replace('.', ':').replace('/', ':')}"


def test_a_plan_has_the_keys_that_others_build_on(document, capsys):
    for name in PLANS:
        found = document(name, capsys)
        for at, keys in PROMISED.items():
            assert set(keys.split()) <= (found[at] if at else found).keys(), name
        assert sum(found["rejected"].values()) <= found["candidates"]


def renamed(document: Json, *path: str) -> Json:
    """Return a document whose key at the path has another name."""
    changed = copy.deepcopy(document)
    owner = changed
    for step in path[:-1]:
        owner = owner[step][0] if isinstance(owner[step], list) else owner[step]
    owner[f"{path[-1]}_"] = owner.pop(path[-1])
    return changed


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("dense", ["mfu"]),
        ("dense", ["command"]),
        ("dense", ["layout", "tp"]),
        ("dense", ["step_split_s", "dp"]),
        ("dense", ["economy", "usd", "low"]),
        ("chosen network", ["fabric", "bill_of_materials", "power_w"]),
        ("top", ["alternatives", "days", "value"]),
        ("compare", ["targets", "plan", "mfu"]),
        ("compare", ["differences", "days", "factors", "factor"]),
        ("explain list", ["lines", "unit"]),
        ("explain number", ["inputs", "origin"]),
        ("explain number", ["formula"]),
        ("one gpu", ["gpus", "provenance", "source"]),
        ("one gpu", ["gpus"]),
        ("validate", ["scores", "GPU", "bias"]),
        ("fit", ["modes", "memory_bytes_per_gpu"]),
        ("check bad", ["problems", "line"]),
        ("rehearse", ["ranks", "peak_bytes"]),
        ("rehearse fleet", ["above", "quorum_gpus"]),
    ],
)
def test_a_key_of_another_name_is_refused(name, path, document, capsys):
    assert refused(renamed(document(name, capsys), *path))


def test_the_file_is_the_document(folder, document, capsys):
    saved = strict((folder / "plan.json").read_text(encoding="utf-8"))
    assert refused(saved) == ""
    printed = document("dense", capsys)
    apart = {"command", "search_cpu_s", "what_if"}  # what_if looks further after a quick search
    assert {k: v for k, v in saved.items() if k not in apart} == {
        k: v for k, v in printed.items() if k not in apart
    }


def test_a_prediction_is_as_its_schema_says(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run(["validate", str(RUNS), "--predictions", "predictions.jsonl"]) == 0
    assert capsys.readouterr().err == ""
    lines = Path("predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    validator = whole(SCHEMAS["prediction"])
    assert all(validator.is_valid(strict(line)) for line in lines)


def test_the_hash_is_of_every_shipped_figure():
    data = Path(str(files("crore"))) / "catalog" / "data"
    total = hashlib.sha256()
    for path in sorted(data.rglob("*")):
        if path.suffix == ".toml":
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    assert constants_sha256() == total.hexdigest()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("plan llama-3.1-405b --gpu rtx-3090 --gpus 8", 1),
        ("fit llama-3.1-405b --gpu rtx-3090", 1),
        ("catalog gpus h1000", 2),
        ("explain none.json", 2),
    ],
)
def test_without_an_answer_stdout_is_empty(words, code, capsys):
    assert run([*words.split(), "--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
