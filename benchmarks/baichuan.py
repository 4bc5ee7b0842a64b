"""A Baichuan-13B-shaped checkpoint becomes a GGUF file on a small disk, and answers.

    python -m benchmarks.baichuan [--tenth] [--dtype q4_0|q8_0] [--context N …] [--folder DIR]

Random weights under the real names and configuration. Each file of the checkpoint is made when the
conversion asks for it and removed when it has been written: never is a second one on the disk.
Prints one JSON object: what the disk and the memory held at most, what it took, and of each context
length what was answered, with the memory and the speed beside what `crore fit` says of them.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

from crore.catalog import load_catalog
from crore.catalog.types import ModelSpec
from crore.plan import FitRequest, make_fit
from crore.plan.fit import ModeFit
from crore.serve.export import Model, export_gguf
from crore.serve.export.hf import hf_config
from crore.serve.importing import open_hf
from crore.serve.layouts import layout_of
from crore.serve.names import links, shapes

SHARD_BYTES = 2_000_000_000
TOKENS = 64
PROMPT = 64
"""Tokens before the answer."""
WORDS = (
    "the quick brown fox jumps over the lazy dog",
    "百川 大模型 你好 世界",
    "one two three 123",
)


def shape(*, tenth: bool) -> ModelSpec:
    """Return Baichuan-13B, or a tenth of its weights in as many layers."""
    spec = load_catalog().model("baichuan-13b")
    spec = replace(spec, norm_epsilon=1e-6)
    if not tenth:
        return spec
    return replace(spec, name="baichuan-13b-tenth", hidden=1536, heads=12, kv_heads=12, ffn=4096)


def dealt(spec: ModelSpec, shard_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    """Return the tensors of each file of the checkpoint in 16 bits, by the names of its release."""
    known = shapes(spec)
    theirs: dict[str, tuple[int, ...]] = {}
    for link in links(spec, layout_of(spec)):
        rows, *rest = known[link.ours]
        theirs[link.theirs] = (theirs.get(link.theirs, (0,))[0] + rows, *rest)
    files: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, size in theirs.items():
        bytes_ = 2 * math.prod(size)
        if held and held + bytes_ > shard_bytes:
            files.append({})
            held = 0
        files[-1][name] = size
        held += bytes_
    return files


def write_frame(folder: Path, spec: ModelSpec, files: dict[str, dict[str, Any]]) -> None:
    """Write what a checkpoint has beside its weights: configuration, index, tokenizer."""
    config = hf_config(spec, layout_of(spec), 4096) | {"torch_dtype": "float16"}
    config |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    places = {name: file for file, tensors in files.items() for name in tensors}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 50), model_prefix=str(folder / "tokenizer"), vocab_size=350,
        model_type="bpe", byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip


def write_shard(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """Write one file of random weights of the size that training leaves."""
    draw = torch.Generator().manual_seed(len(path.name) + len(tensors))
    made = {
        name: torch.ones(size, dtype=torch.float16)
        if len(size) == 1
        else torch.randn(size, generator=draw).mul_(size[-1] ** -0.5).half()
        for name, size in tensors.items()
    }
    save_file(made, path, metadata={"format": "pt"})


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def converted(folder: Path, spec: ModelSpec, path: Path, dtype: str) -> dict[str, Any]:
    """Convert, file by file, and return what it took."""
    source = folder / "hf"
    source.mkdir()
    dealt_files = dealt(spec, SHARD_BYTES if spec.hidden > 2048 else SHARD_BYTES // 10)
    files = {f"model-{n:05d}-of-{len(dealt_files):05d}.safetensors": tensors
             for n, tensors in enumerate(dealt_files, start=1)}  # fmt: skip
    write_frame(source, spec, files)
    disk, making_s = [0], [0.0]

    def fetch(name: str) -> None:
        began_s = time.process_time()
        write_shard(source / name, files[name])
        disk.append(disk_bytes(folder))
        making_s.append(time.process_time() - began_s)

    began_s = time.process_time()
    model = open_hf(source, fetch=fetch, delete=True)
    given = Model(
        spec=model.spec, names=tuple(model.shapes), read=model.read, context=model.context,
        tokenizer=source,
    )  # fmt: skip
    export_gguf(given, path, dtype, tell=lambda _done, _all: disk.append(disk_bytes(folder)))
    model.close()
    return {
        "parameters": sum(map(math.prod, model.shapes.values())), "files": len(files),
        "file_bytes": max(2 * sum(map(math.prod, it.values())) for it in files.values()),
        "gguf_bytes": path.stat().st_size, "disk_bytes": max(disk),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "convert_cpu_s": time.process_time() - began_s - sum(making_s), "make_cpu_s": sum(making_s),
        "files_left": len(list(source.glob("*.safetensors"))),
    }  # fmt: skip


def fitted(config: Path, dtype: str, context: int) -> ModeFit:
    """Return what `crore fit CONFIG --gpu this-machine --engine llamacpp` says of a type."""
    made = make_fit(
        FitRequest(model=str(config), gpu="this-machine", engine="llamacpp", context=context)
    )
    return next(row for row in made.modes if row.mode == f"inference {dtype}")


def answered(path: Path, config: Path, dtype: str, context: int) -> dict[str, Any]:
    """Let a process of its own answer, and return memory and speed beside what was said of them.

    The speed is said of as many tokens as the cache holds halfway through the answer.
    """
    script = Path(__file__).with_name("answering.py")
    words = ["--context", str(context), "--prompt", str(PROMPT), "--tokens", str(TOKENS)]
    done = subprocess.run(
        [sys.executable, script, path, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    said_bytes = fitted(config, dtype, context).bytes
    said_per_s = fitted(config, dtype, PROMPT + TOKENS // 2).tokens_per_s
    assert said_per_s is not None
    return found | {
        "said_bytes": said_bytes, "said_tokens_per_s": said_per_s,
        "bytes_off": found["peak_bytes"] / said_bytes - 1,
        "tokens_per_s_off": found["tokens_per_s"] / said_per_s - 1,
        "tokens_per_cpu_s_off": found["tokens_per_cpu_s"] / said_per_s - 1,
    }  # fmt: skip


def main(report: Callable[[str], object] = print) -> None:
    """Convert and answer, in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tenth", action="store_true", help="a tenth of the weights")
    parser.add_argument("--dtype", default="q4_0")
    parser.add_argument("--folder", type=Path, help="where there is room; a temporary one if none")
    parser.add_argument("--context", type=int, nargs="+", default=[512])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        path = folder / "model.gguf"
        spec = shape(tenth=asked.tenth)
        record = {"model": spec.name, "dtype": asked.dtype}
        record |= converted(folder, spec, path, asked.dtype)
        config = folder / "hf" / "config.json"
        record["answers"] = [answered(path, config, asked.dtype, n) for n in asked.context]
    report(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
