"""Which models are built, which layers are mixtures, which have windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model.shapes import DENSE, MIXTURE

from crore.catalog import load_catalog
from crore.cost import shape_of
from crore.errors import InputError
from crore.model.supported import check_buildable, is_mixture, window_of

CATALOG = load_catalog()
REFUSED = {
    "nemotron-h-56b": "Mamba-2",
    "nemotron-3-nano": "Mamba-2",
    "qwen3-next-80b-a3b": "gated DeltaNet",
}


def test_these_models_of_the_catalogue_are_refused_and_no_others():
    refused = set()
    for name in CATALOG.models():
        try:
            check_buildable(CATALOG.model(name))
        except InputError:
            refused.add(name)
    assert refused == set(REFUSED)


@pytest.mark.parametrize(("name", "kind"), REFUSED.items())
def test_a_refusal_names_the_model_and_the_layers(name, kind):
    with pytest.raises(InputError, match=f"^{name} has {kind} layers") as raised:
        check_buildable(CATALOG.model(name))
    assert len(str(raised.value)) <= 240
    assert not str(raised.value).endswith("…")


def test_a_pattern_of_single_mixers_is_refused():
    with pytest.raises(InputError, match=r"hybrid of single-mixer layers \(\*-\*-"):
        check_buildable(replace(DENSE, pattern="*-*-"))


@pytest.mark.parametrize("name", [n for n in CATALOG.models() if n not in REFUSED])
def test_layers_of_each_kind_are_as_many_as_the_planner_counts(name):
    spec = CATALOG.model(name)
    shape, layers = shape_of(spec), range(spec.layers)
    assert sum(is_mixture(spec, layer) for layer in layers) == shape.moe
    assert sum(window_of(spec, layer) > 0 for layer in layers) == shape.windowed


def test_mixtures_begin_behind_the_dense_layers():
    spec = replace(MIXTURE, layers=6, first_dense=2, moe_every=2)
    assert [is_mixture(spec, layer) for layer in range(6)] == [False] * 3 + [True, False, True]
    assert not any(is_mixture(DENSE, layer) for layer in range(2))


def test_windows_come_in_their_published_order():
    # Gemma 2 (arXiv 2408.00118 §2): every other layer; Gemma 3 (2503.19786 §2): five, then one.
    gemma2, gemma3 = CATALOG.model("gemma2-9b"), CATALOG.model("gemma3-12b")
    assert [window_of(gemma2, layer) for layer in range(4)] == [4096, 0, 4096, 0]
    assert [window_of(gemma3, layer) for layer in range(7)] == [1024] * 5 + [0, 1024]
