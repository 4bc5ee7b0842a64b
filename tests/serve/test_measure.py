"""What llama.cpp reads a second is measured on models of a known size."""

from __future__ import annotations

import gguf
import pytest

from crore.serve import measure
from crore.serve.engine import EngineSettings, start

SMALL = {"WIDTH": 256, "FFN": 512, "HEADS": 4, "LAYERS": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One narrow layer."""
    for name, value in SMALL.items():
        monkeypatch.setattr(measure, name, value)


@pytest.mark.parametrize(("kind", "bits"), [("F16", 16), ("Q8_0", 8.5), ("Q4_0", 4.5)])
def test_the_model_is_stored_as_asked_and_answers(kind, bits, tmp_path):
    path = tmp_path / "a.gguf"
    read = measure.write_model(path, kind)
    matrices = 4 * 256**2 + 3 * 256 * 512 + 257 * 256
    assert read == matrices * bits / 8 + 3 * 256 * 4
    stored = {it.name: it.tensor_type.name for it in gguf.GGUFReader(path).tensors}
    assert stored["blk.0.ffn_down.weight"] == kind
    engine = start(EngineSettings(path=path, context=64, threads=1))
    pieces = list(engine.complete([256], max_tokens=5, ignore_eos=True))
    engine.close()
    assert pieces[-1].tokens == 5


def test_there_is_a_rate_of_each_type():
    rates = measure.read_rates()
    assert list(rates) == ["fp16", "q8_0", "q4_0"]
    assert all(1e6 < rate < 1e12 for rate in rates.values())
