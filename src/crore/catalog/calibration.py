"""What `crore calibrate` measured: seconds of products, passes, attention and messages, one file.

A CPU is measured in one setting per number of processes, because processes share its cores, caches
and memory. A card is measured alone, and once more per number of processes for the messages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from crore.errors import InputError, shown
from crore.io import Record, cache_folder, check_keys, exists, read_toml

VERSION: Final = 1
KIND: Final = "calibration"
FILE_NAME: Final = "calibration.toml"
MESSAGES: Final = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "p2p")
"""As the operation list names them."""
READ: Final = ("fp16", "q8_0", "q4_0")
"""Types of weights that llama.cpp reads, as `crore fit` names them."""
PASSES: Final = ("map", "exp")
"""Arithmetic (a product of two tensors), and exponentials (the softmax of one)."""
OPTIONAL: Final = ("messages", "shard_s", "step_factor", "spread", "read_bytes_per_s")
"""Keys that a file may lack."""
LEAST_FACTOR: Final = 0.1
Device = Literal["cpu", "cuda"]
Floats = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Products:
    """Seconds of `[m, k] x [k, n]` on the grid m x n x k, the last axis running fastest."""

    m: Floats
    n: Floats
    k: Floats
    forward_s: Floats
    """x @ w.T, as a linear layer runs it."""
    input_s: Floats
    """The gradient of its input, [m, n] x [n, k]."""
    weight_s: Floats
    """The gradient of its weight, [n, m] x [m, k]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """Seconds of one kernel of a class by the size of its tensors, its output in new memory."""

    size: Floats
    """Bytes of one tensor."""
    hot_s: Floats
    """Its inputs used a moment ago."""
    cold_s: Floats
    """Its inputs pushed out of the caches by others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Seconds per head and sequence of causal attention, on the grid seq x head_dim."""

    seq: Floats
    head_dim: Floats
    forward_s: Floats
    backward_s: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Seconds by size."""

    size: Floats
    """Bytes of a message's buffer, or weights that an optimizer updates."""
    seconds: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The machine shared by so many processes, all measured at the same time."""

    processes: int
    threads: int
    """Of each process."""
    launch_s: float
    """Host time of one eager operation on a tensor of no size."""
    products: Mapping[str, Products]
    """By format: fp32, bf16."""
    attention: Mapping[str, Attention]
    passes: Mapping[str, Passes]
    """By class, of `PASSES`; fp32."""
    optimizer: Curve
    """Fused AdamW in fp32."""
    shard_s: float = 0.0
    """Host time that FSDP adds to each gather and scatter; 0 for one process."""
    step_factor: float = 1.0
    """Whole steps over the sum of their parts, each measured alone: what all parts take longer."""
    messages: Mapping[str, Curve]
    """By collective, of `MESSAGES`; empty for one process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """One machine as it was measured."""

    device: Device
    name: str
    """Of the processor or the card, as its maker calls it."""
    date: str
    """UTC, ISO 8601."""
    torch: str
    """Version."""
    cores: int
    """Cores the process may use; cards on a machine with CUDA."""
    memory_bytes: float
    """Of the whole machine, or of one card."""
    process_bytes: float
    """Resident memory of a process that has imported torch and done nothing."""
    load: float
    """Processes that wanted to run when it began (load average of one minute); -1 unknown."""
    took_s: float
    spread: float = -1.0
    """Slower round over faster, less one: the median over all points of the tables or
    over all whole steps, whichever is larger; -1 unknown."""
    read_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    """What llama.cpp reads of weights while it answers, on all cores but one, by their type, of
    `READ`; empty where it was not measured."""
    settings: tuple[Setting, ...]
    """By rising number of processes."""

    def setting(self, processes: int) -> Setting:
        """Return the setting of that many processes, or the nearest one below it."""
        below = [s for s in self.settings if s.processes <= processes]
        return below[-1] if below else self.settings[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A calibrated machine as one of so many processes sees it."""

    device: Device
    date: str
    setting: Setting
    """The measured one with the most processes that are not more than these."""
    crowding: float
    """Processes over those of the setting: how much longer everything takes on shared cores."""
    process_bytes: float
    read_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    """Of weights by llama.cpp, by their type; empty where it was not measured."""


def measured_by(calibration: Calibration, processes: int) -> Measured:
    """Return what a plan of so many processes on this machine is priced with."""
    setting = calibration.setting(processes)
    shared = calibration.device == "cpu"
    return Measured(
        device=calibration.device, date=calibration.date, setting=setting,
        crowding=max(processes / setting.processes, 1.0) if shared else 1.0,
        process_bytes=calibration.process_bytes,
        read_bytes_per_s=calibration.read_bytes_per_s,
    )  # fmt: skip


def calibration_path() -> Path:
    """Return where calibrations are kept: in crore's cache."""
    return cache_folder() / FILE_NAME


def find_calibration() -> Path | None:
    """Return the calibration of this machine: in the working folder, or else in the user's cache.

    None when it was never measured.
    """
    places = (Path(FILE_NAME), calibration_path())
    return next((path for path in places if exists(path)), None)


def is_calibration(record: Mapping[str, Any]) -> bool:
    """True for the content of a calibration file, whatever its version."""
    return str(record.get("schema", "")).startswith(f"crore.{KIND}/")


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file; InputError for what is no such file, naming the key."""
    return calibration_from(read_toml(path), path.name)


def calibration_from(record: Record, where: str) -> Calibration:
    """Build the record from a file's content; `where` names the file in messages."""
    if not is_calibration(record):
        raise InputError(f"{where} is no calibration file; crore calibrate writes one")
    version = str(record["schema"]).rpartition("/")[2]
    if version != str(VERSION):
        raise InputError(
            f"{where} has calibration schema {version[:20]}; crore reads {VERSION}: measure again "
            "with crore calibrate"
        )
    names = [f.name for f in fields(Calibration) if f.name != "settings"]
    needed = [name for name in names if name not in OPTIONAL]
    check_keys(record, ["schema", "crore", *names, "setting"], where, [*needed, "setting"])
    device = record["device"]
    if device not in get_args(Device):
        raise InputError(f"{where}: device is cpu or cuda, not {shown(device)}")
    tables = record["setting"]
    if not isinstance(tables, list) or not tables:
        raise InputError(f"{where} holds no [[setting]]: measure again with crore calibrate")
    settings = [_setting(table, f"{where} [[setting]]") for table in tables]
    return Calibration(
        device=cast(Device, device), name=str(record["name"]), date=str(record["date"]),
        torch=str(record["torch"]), cores=int(_number(record, "cores", where, least=1)),
        memory_bytes=_number(record, "memory_bytes", where, least=1),
        process_bytes=_number(record, "process_bytes", where),
        load=_number(record, "load", where, least=-1), took_s=_number(record, "took_s", where),
        spread=_number({"spread": -1.0, **record}, "spread", where, least=-1),
        read_bytes_per_s=_read_rates(record.get("read_bytes_per_s", {}), where),
        settings=tuple(sorted(settings, key=lambda s: s.processes)),
    )  # fmt: skip


def _read_rates(table: Any, where: str) -> dict[str, float]:
    inside = f"{where} read_bytes_per_s"
    _is_table(table, inside)
    check_keys(table, READ, inside, READ if table else ())
    return {name: _number(table, name, inside, least=1) for name in table}


def _setting(table: Any, where: str) -> Setting:
    _is_table(table, where)
    names = [f.name for f in fields(Setting)]
    check_keys(table, names, where, [name for name in names if name not in OPTIONAL])
    return Setting(
        processes=int(_number(table, "processes", where, least=1)),
        threads=int(_number(table, "threads", where, least=1)),
        launch_s=_number(table, "launch_s", where),
        shard_s=_number({"shard_s": 0.0, **table}, "shard_s", where),
        step_factor=_number({"step_factor": 1.0, **table}, "step_factor", where, LEAST_FACTOR),
        products=_tables(table, "products", where, ("fp32", "bf16"), _products),
        attention=_tables(table, "attention", where, ("fp32", "bf16"), _attention),
        passes=_tables(table, "passes", where, PASSES, _passes, PASSES),
        optimizer=_curve(table["optimizer"], f"{where} optimizer"),
        messages=_tables({"messages": {}, **table}, "messages", where, MESSAGES, _curve),
    )  # fmt: skip


def _tables(
    table: Record, key: str, where: str, valid: tuple[str, ...], build: Any,
    required: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    inside = f"{where} {key}"
    _is_table(table[key], inside)
    check_keys(table[key], valid, inside, required)
    return {name: build(each, f"{inside}.{name}") for name, each in table[key].items()}


def _products(table: Any, where: str) -> Products:
    lists = _lists(table, where, Products)
    points = len(lists["m"]) * len(lists["n"]) * len(lists["k"])
    return Products(**_sized(lists, where, {"forward_s", "input_s", "weight_s"}, points))


def _attention(table: Any, where: str) -> Attention:
    lists = _lists(table, where, Attention)
    points = len(lists["seq"]) * len(lists["head_dim"])
    return Attention(**_sized(lists, where, {"forward_s", "backward_s"}, points))


def _passes(table: Any, where: str) -> Passes:
    lists = _lists(table, where, Passes)
    return Passes(**_sized(lists, where, {"hot_s", "cold_s"}, len(lists["size"])))


def _curve(table: Any, where: str) -> Curve:
    lists = _lists(table, where, Curve)
    return Curve(**_sized(lists, where, {"seconds"}, len(lists["size"])))


def _lists(table: Any, where: str, kind: type[Any]) -> dict[str, Floats]:
    """Return the lists of a table, each of numbers above 0."""
    _is_table(table, where)
    names = [f.name for f in fields(kind)]
    check_keys(table, names, where, names)
    for name in names:
        values = table[name]
        if not isinstance(values, list) or not values or not all(map(_is_positive, values)):
            raise InputError(f"{where}: {name} is a list of numbers above 0, not {shown(values)}")
    return {name: tuple(float(x) for x in table[name]) for name in names}


def _sized(
    lists: dict[str, Floats], where: str, measured: set[str], points: int
) -> dict[str, Floats]:
    """Check that axes rise and that there is one measurement per point of their grid."""
    for name, values in lists.items():
        if name in measured:
            if len(values) != points:
                raise InputError(f"{where}: {name} has {len(values)} numbers for {points} points")
        elif list(values) != sorted(set(values)):
            raise InputError(f"{where}: {name} must rise from one number to the next")
    return lists


def _is_table(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is a table, not {shown(value)}")


def _is_positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _number(table: Mapping[str, Any], key: str, where: str, least: float = 0.0) -> float:
    value = table[key]
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or not least <= value < math.inf:
        raise InputError(f"{where}: {key} is a number from {least:g}, not {shown(value)}")
    return float(value)
