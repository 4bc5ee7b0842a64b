"""`crore export` and `crore import` as a user meets them, from a run on."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.serve.llama import witness
from tests.train.tiny import SEQ_LEN, VOCAB, home, words
from transformers import AutoModelForCausalLM

from crore.cli import run
from crore.cli.exported import gguf_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a home with a finished run of each of two models."""
    torch.set_num_threads(1)
    folder = home(tmp_path_factory.mktemp("home"))
    assert run(words(folder, steps=4, quiet=True)) == 0
    mixed = words(folder, steps=2, quiet=True, out="mixed")
    assert run(["tiny-moe" if word == "tiny" else word for word in mixed]) == 0
    return folder


@pytest.fixture
def called(capsys):
    """Return what `crore` with some words prints, says and exits with."""

    def call(*line: str) -> tuple[int, str, str]:
        code = run(list(line))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert len(err.splitlines()) == (code != 0)
        return code, out, err

    return call


@pytest.mark.parametrize("name", ["run", "mixed"])
def test_a_run_says_the_same_in_transformers_and_in_llama_cpp(root, called, tmp_path, name):
    source, file, folder = str(root / name), tmp_path / "m.gguf", tmp_path / "hf"
    code, out, _ = called("export", source, "--to", "gguf", "--dtype", "f32", "-o", str(file))
    assert (code, "talk to it: crore chat " in out) == (0, True)
    code, out, _ = called("export", source, "--to", "hf", "--dtype", "f32", "-o", str(folder))
    assert (code, " in f32, 0." in out) == (0, True)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.arange(10, 10 + 2 * (SEQ_LEN - 4)).view(2, -1)
    with torch.no_grad():
        expected = theirs(tokens).logits[:, -1].log_softmax(-1)
    with witness(file, 2 * SEQ_LEN) as held:
        assert (held.log_probabilities(tokens, VOCAB) - expected).abs().max() < 1e-3


def test_a_run_is_found_where_it_is_and_goes_out_and_back_to_the_bit(root, called, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    source = tmp_path / "run"
    assert called("export", str(source), "--to", "hf", "--dtype", "f32")[0] == 0
    code, out, _ = called("import", str(source / "hf"), "-o", str(tmp_path / "back"))
    assert (code, "parameters, step 0 of a run" in out) == (0, True)
    again = tmp_path / "again"
    called("export", str(tmp_path / "back"), "--to", "hf", "--dtype", "f32", "-o", str(again))
    one, two = (load_file(it / "model.safetensors") for it in (source / "hf", again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (again / name).read_text() == (source / "hf" / name).read_text()


def test_a_gguf_file_is_made_once_and_anew_after_more_steps(root, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    path = gguf_of(tmp_path / "run")
    assert path == tmp_path / "run" / "run-f16.gguf"
    before = path.stat().st_mtime_ns
    assert gguf_of(tmp_path / "run").stat().st_mtime_ns == before
    newest = max((tmp_path / "run" / "checkpoint").glob("step-*"))
    os.utime(newest, ns=(before + 10**9, before + 10**9))
    assert gguf_of(tmp_path / "run").stat().st_mtime_ns > before


def test_a_folder_of_others_becomes_a_gguf_file_and_its_shards_go_when_asked(
    root, called, tmp_path
):
    called("export", str(root / "run"), "--to", "hf", "-o", str(tmp_path / "hf"))
    weights = tmp_path / "hf" / "model.safetensors"
    assert called("export", str(tmp_path / "hf"), "-o", str(tmp_path / "a.gguf"))[0] == 0
    assert weights.exists()
    file = tmp_path / "b.gguf"
    code, _, _ = called("export", str(tmp_path / "hf"), "-o", str(file), "--delete-shards")
    assert code == 0
    assert not weights.exists()
    assert file.read_bytes() == (tmp_path / "a.gguf").read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("export", "{run}", "--to", "onnx"), "unknown target 'onnx' (one of: hf, gguf)"),
        (("export", "{run}", "--dtype", "q5"), "unknown type of GGUF weights 'q5'"),
        (("export", "{run}", "--to", "hf", "--dtype", "q8_0"), "unknown type of Hugging Face"),
        (("export", "nowhere"), "no folder nowhere"),
        (("export", "{root}/text"), "holds no run and no Hugging Face model"),
        (("export", "{run}", "--delete-shards"), "a run's files stay"),
        (("export", "{run}", "--to", "hf", "--delete-shards"), "goes with --to gguf"),
        (("export", "{run}", "-o", "/proc/x/m.gguf"), "cannot write /proc/x/m.gguf"),
        (("import", "nowhere"), "no folder nowhere"),
        (("import", "{run}"), "holds no config.json"),
    ],
)
def test_what_makes_no_sense_is_one_line(root, called, line, said):
    places = {"run": str(root / "run"), "root": str(root)}
    code, _, err = called(*(word.format(**places) for word in line))
    assert code == 2
    assert said in err


def test_a_run_without_its_tokenizer_says_what_to_put_where(root, called, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").unlink()
    code, _, err = called("export", str(tmp_path / "run"))
    assert code == 2
    assert "holds no tokenizer.json and no tokenizer.model: put one there" in err
