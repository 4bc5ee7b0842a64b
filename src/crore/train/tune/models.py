"""The model that is tuned: loaded, given adapters or 4-bit weights, merged and written."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from crore.errors import InputError
from crore.train.tune.settings import Method, Tuning

INSTALL: Final = "pip install 'crore[tune]'"
ALPHA: Final = 2
"""Of adapters, over their rank (arXiv 2106.09685 §4.1, in peft's usual setting)."""
NEEDED: Final = {"full": ("transformers",), "lora": ("transformers", "peft"),
                 "qlora": ("transformers", "peft", "bitsandbytes")}  # fmt: skip


def check_installed(method: Method) -> None:
    """Raise InputError for a library that is missing, with the line that installs it."""
    for name in NEEDED[method]:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"tuning by {method} needs {name}: {INSTALL}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own words and bars off the terminal."""
    from transformers.utils import logging as spoken

    level, bars = spoken.get_verbosity(), spoken.is_progress_bar_enabled()
    spoken.set_verbosity_error()  # type: ignore[no-untyped-call]
    spoken.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("accelerate", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        spoken.set_verbosity(level)
        if bars:
            spoken.enable_progress_bar()  # type: ignore[no-untyped-call]


def device_of(tuning: Tuning) -> torch.device:
    """Return where the model is tuned."""
    found = tuning.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(found)


def load(tuning: Tuning) -> Any:
    """Return the base model with what is trained of it, in training mode.

    Raises InputError for a folder that holds no model that transformers knows.
    """
    check_installed(tuning.method)
    with quiet():
        model = _base(tuning.base, device_of(tuning), four_bits=tuning.method == "qlora")
        if tuning.method != "full":
            model = _adapted(model, tuning)
    model.train()
    return model


def _base(folder: Path, device: torch.device, *, four_bits: bool = False) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # On a CPU 32 bits are the fast format, and the exact one.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    more: dict[str, Any] = {}
    if four_bits:
        more = {
            "device_map": {"": device},
            "quantization_config": BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            ),
        }  # fmt: skip
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", **more
        )
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:100]
        raise InputError(f"no model in {str(folder)[-60:]}: {first}") from error
    return model if four_bits else model.to(device)


def _adapted(model: Any, tuning: Tuning) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(tuning.seed)  # of the adapters' first weights
    config = LoraConfig(
        r=tuning.rank, lora_alpha=ALPHA * tuning.rank, lora_dropout=0.0, bias="none",
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, config)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Have a model evaluated, without gradients, and trained again after.

    Not so its 4-bit layers: on a CPU bitsandbytes packs what is not in training for good, and
    gradients through it would be wrong.
    """
    model.eval()
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.training = True
    with torch.no_grad():
        yield
    model.train()


def trained(model: Any) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def write(model: Any, tokenizer: Any, tuning: Tuning) -> None:
    """Write the tuned model in Hugging Face's layout, adapters merged, and the adapters beside it.

    Adapters of 4-bit weights are merged into the weights they were made of.
    """
    with quiet():
        if tuning.method != "full":
            model.save_pretrained(tuning.folder / "adapter")
            model = _merged(model, tuning)
        model.save_pretrained(tuning.folder)
        tokenizer.save_pretrained(tuning.folder)


def _merged(model: Any, tuning: Tuning) -> Any:
    if tuning.method == "qlora":
        from peft import PeftModel

        base = _base(tuning.base, device_of(tuning))
        model = PeftModel.from_pretrained(base, tuning.folder / "adapter")
    return model.merge_and_unload()


def unpacked(file: Path, folder: Path) -> Path:
    """Write a GGUF file's model, widened to 32 bits, into a folder of Hugging Face's layout."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    check_installed("full")
    with quiet():
        given = {"gguf_file": file.name}
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
        config = AutoConfig.from_pretrained(file.parent, **given)
        plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        plain.load_state_dict(model.state_dict())  # without what says that it came from few bits
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(folder)
    return folder
