"""What a model writes: only as much is run as decides the next token."""

from __future__ import annotations

import os

import pytest
import torch
from tests.train.gloo import run
from tests.train.tiny import BATCH, CATALOGUE

from crore.catalog import load_catalog
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.model.split import Split
from crore.train.engine import Engine
from crore.train.sample import draw, next_logits

LENGTH = 128


def engine_of(folder, kind, split):
    name = "tiny-moe" if kind == "moe" else "tiny"
    text = CATALOGUE
    if kind == "alibi":
        text = text.replace('"rope"', '"alibi"')
    if kind == "window":
        text = text.replace("heads = 4\n", "heads = 4\nwindow = 9\n", 1)
    file = folder / f"{kind}-{os.getpid()}.toml"  # each rank has its own: none is read half written
    file.write_text(text)
    spec = load_catalog(file).model(name)
    world = make_world(split, torch.device("cpu"), experts=spec.experts > 0)
    return Engine(spec, LENGTH, world, BuildOptions(seed=3), global_batch=BATCH)


@pytest.mark.parametrize("kind", ["rope", "moe", "alibi", "window"])
@pytest.mark.parametrize("count", [1, 31, 32, 33, LENGTH])
def test_a_prefix_says_the_same_as_the_whole_length(tmp_path, kind, count):
    engine = engine_of(tmp_path, kind, Split())
    ids = [number * 7 % 400 for number in range(count)]
    short, long = (next_logits(engine, ids, one_shape=one_shape) for one_shape in (False, True))
    assert torch.allclose(short, long, atol=1e-6)


def test_only_the_padded_prefix_is_run(tmp_path, monkeypatch):
    engine, logits = engine_of(tmp_path, "rope", Split()), Engine.logits
    seen: list[int] = []

    def watched(self: Engine, tokens: torch.Tensor) -> torch.Tensor | None:
        seen.append(tokens.shape[1])
        return logits(self, tokens)

    monkeypatch.setattr(Engine, "logits", watched)
    for count in (1, 32, 33, LENGTH):
        next_logits(engine, [5] * count)
    assert seen == [32, 32, 64, LENGTH]


def on_a_rank(folder, layout, ids):
    engine = engine_of(folder, "rope", Split(**layout))
    return [next_logits(engine, ids, one_shape=one_shape) for one_shape in (False, True)]


@pytest.mark.parametrize("layout", [{"tp": 2, "sequence_parallel": True}, {"pp": 2}])
def test_every_rank_gets_the_whole_vocabulary_of_one_rank(tmp_path, layout):
    ids = [number * 7 % 400 for number in range(40)]
    expected = next_logits(engine_of(tmp_path, "rope", Split()), ids)
    for found in run(on_a_rank, 2, tmp_path, tmp_path, layout, ids):
        assert all(torch.allclose(logits, expected, atol=1e-5) for logits in found)


def test_a_token_is_drawn_from_the_likeliest():
    logits = torch.linspace(0, 8, 400)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(logits, generator) for _ in range(200)]
    assert min(drawn) >= 400 - 40
    assert len(set(drawn)) > 10
    assert draw(torch.tensor([0.0, 90.0]), generator) == 1
