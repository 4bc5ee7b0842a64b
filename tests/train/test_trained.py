"""What a run leaves is found again; weights of others go into any layout of a run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.model.shapes import DENSE, MIXTURE, made
from tests.train.gloo import run
from torch.distributed.tensor import DTensor

from crore.errors import InputError
from crore.model.initialise import canonical
from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions, build_parts
from crore.model.split import Split
from crore.train.trained import open_trained, write_trained

CONTEXT = 16
TIED = replace(DENSE, name="tied", tied_embeddings=True, norm_epsilon=1e-6, rope_base=1e6)
SPECS = {"tied": TIED, "mixture": replace(MIXTURE, router="softmax-topk", shared_ffn=0)}


def source_of(spec, dtype=torch.float32):
    """Return a model as an import gives it."""
    held = {name: weight.detach() for name, weight in made(spec, CONTEXT).named_parameters()}
    shapes = {name: tuple(weight.shape) for name, weight in held.items()}
    return SimpleNamespace(
        spec=spec, shapes=shapes, context=CONTEXT, dtype=dtype, read=lambda name: held[name]
    )


def silent(done, of_all):
    assert 0 < done <= of_all


def test_a_model_that_was_left_is_found(tmp_path):
    write_trained(tmp_path, source_of(TIED, torch.bfloat16), silent)
    found = open_trained(tmp_path)
    assert replace(found.spec, provenance=TIED.provenance) == TIED
    assert (found.context, found.end_of_text, found.weights.step) == (CONTEXT, "", 0)
    expected = made(TIED, CONTEXT).embedding.weight.detach().bfloat16()
    assert torch.equal(found.weights.read("embedding.weight"), expected)


def test_a_run_is_not_written_over(tmp_path):
    write_trained(tmp_path, source_of(TIED), silent)
    with pytest.raises(InputError, match="holds a run already"):
        write_trained(tmp_path, source_of(TIED), silent)


def test_a_shape_that_changed_is_said(tmp_path):
    write_trained(tmp_path, source_of(TIED), silent)
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "model.toml").write_text(text.replace("ffn = 48", "ffn = 50"))
    with pytest.raises(InputError, match="of another shape of tied than the catalogue's"):
        open_trained(tmp_path)


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(InputError, match=r"holds no run: no model\.toml and no plan\.json"):
        open_trained(tmp_path)


def filled(folder, kind, axes):
    """Fill a rank's parts of a layout; return the names whose values are not the model's."""
    spec = SPECS[kind]
    world = make_world(
        Split(**axes), torch.device("cpu"), experts=spec.experts > 0, tied=spec.tied_embeddings
    )
    parts = build_parts(spec, CONTEXT, world, BuildOptions(seed=9))
    tensors = {
        canonical(name, part): parameter.detach()
        for part in parts
        for name, parameter in part.named_parameters()
    }
    open_trained(folder).weights.fill(tensors)
    whole = {name: it.detach() for name, it in made(spec, CONTEXT).named_parameters()}
    return len(tensors), [name for name, it in tensors.items()
                          if not torch.equal(_whole(it), whole[name])]  # fmt: skip


def _whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@pytest.mark.parametrize(
    ("kind", "axes"),
    [
        ("tied", {"dp_shard": 2}),
        ("tied", {"tp": 2}),
        ("tied", {"pp": 2}),
        ("mixture", {"dp_shard": 2, "ep": 2}),
    ],
    ids=str,
)
def test_weights_go_into_every_layout(kind, axes, tmp_path):
    write_trained(tmp_path / "run", source_of(SPECS[kind]), silent)
    for held, wrong in run(filled, 2, tmp_path, tmp_path / "run", kind, axes):
        assert held > 0
        assert wrong == []
