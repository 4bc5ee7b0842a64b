"""The plan that a run carries out: read from a file, or made for a mission on the spot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crore.errors import InputError, nearest, shown

if TYPE_CHECKING:
    from crore.catalog import Catalog
    from crore.catalog.types import ModelSpec

HERE = "this-machine"
"""The cluster that `crore calibrate` measures."""
OPEN = ("tokens",)
"""What a run may change of a plan it is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A plan, and what its names stand for."""

    body: dict[str, Any]
    """Of plan.json."""
    spec: "ModelSpec"
    catalog: "Catalog"
    notes: tuple[str, ...]
    """What a user should know of how it came about."""
    write: Callable[[Path], None]
    """Writes plan.json."""


def plan_of(target: str, given: dict[str, Any], folder: Path, *, small: bool) -> Planned:
    """Return the plan of a target: a plan file, a mission or a model, flags laid over it.

    A model alone is planned for this machine. `small` cuts the model to a shape that a CPU trains,
    writes it to `folder` as a catalogue file, and plans that for this machine.
    """
    if target.endswith(".json"):
        body = _read(Path(target))
        if body is not None:
            return _from_file(target, body, given, small=small)
    return _made(target, given, folder, small=small)


def body_of(target: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a plan file as it is, or of the plan made for a mission.

    Raises InputError for a model alone, which says nothing of machines.
    """
    if target.endswith(".json"):
        body = _read(Path(target))
        if body is not None:
            return _from_file(target, body, given, small=False).body
    from crore.cli.plan import made
    from crore.cli.request import laid_over
    from crore.plan import mission_names, plan_record, read_mission

    mission = read_mission(target)
    if mission is None or not {"cluster", "gpu"} & mission.keys():
        near = nearest(target, mission_names(), count=1)
        name = target[:40]
        hint = f" (or did you mean the mission {near[0]}?)" if near else ""
        raise InputError(
            f"{name} names no machines: crore plan {name} --gpu G --gpus N -o plan.json, then "
            f"crore simulate plan.json{hint}"
        )
    return plan_record(made(laid_over(mission, target, given)))


def _read(path: Path) -> dict[str, Any] | None:
    from crore.io import read_json
    from crore.plan import SCHEMA_VERSION, read_saved

    return read_json(path, "plan", SCHEMA_VERSION) if read_saved(path) is not None else None


def _from_file(target: str, body: dict[str, Any], given: dict[str, Any], *, small: bool) -> Planned:
    from crore.catalog import load_catalog
    from crore.io import read_text, write_text
    from crore.plan import read_saved

    changed = [key for key, value in given.items() if value is not None and key not in OPEN]
    if changed or small:
        flag = f"--{changed[0].replace('_', '-')}" if changed else "--scale"
        raise InputError(
            f"{target[-60:]} is carried out as it is: {flag} would need another plan (train its "
            "mission or model instead, or crore plan … -o)"
        )
    if given.get("tokens") is not None:
        from crore.units import parse_count

        body = {**body, "tokens": parse_count(str(given["tokens"]), "--tokens")}
    check_whole(body, target[-60:])
    saved = read_saved(Path(target))
    assert saved is not None
    catalog = load_catalog(saved.request.catalog_file)
    text = read_text(Path(target))
    return Planned(
        body=body, spec=catalog.model(saved.request.model), catalog=catalog, notes=(),
        write=lambda path: write_text(path, text),
    )  # fmt: skip


_NUMBERS = (
    "worlds", "tokens", "seq_len", "global_batch_tokens", "tokens_per_s", "memory_bytes_per_gpu",
    "step_time_s.value", "step_time_s.low", "step_time_s.high",
    *(f"layout.{axis}" for axis in ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep",
                                    "etp", "micro_batch")),
)  # fmt: skip
_WORDS = ("gpu", "step_time_s.evidence", "layout.schedule", "layout.recompute",
          "layout.precision", "layout.zero")  # fmt: skip


def check_whole(body: dict[str, Any], name: str) -> None:
    """Raise InputError for a plan whose parts that a run reads are missing or of another kind."""
    rules: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
        (_NUMBERS, lambda it: isinstance(it, int | float) and it > 0, "a number above 0"),
        (_WORDS, lambda it: isinstance(it, str), "a word"),
        (("memory_split_bytes",), lambda it: isinstance(it, dict), "an object"),
        (("layout.recompute_layers",), lambda it: isinstance(it, int), "a number"),
        (("layout.sequence_parallel",), lambda it: isinstance(it, bool), "true or false"),
    )
    for places, holds, what in rules:
        for place in places:
            if not holds(value := _at(body, place)):
                raise InputError(
                    f"{name} is damaged: {place} must be {what}, not {shown(value)}; plan it again"
                )


def _at(body: dict[str, Any], place: str) -> Any:
    value: Any = body
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _made(target: str, given: dict[str, Any], folder: Path, *, small: bool) -> Planned:
    from crore.cli.document import written
    from crore.cli.plan import made
    from crore.plan import SCHEMA_VERSION, plan_record, read_mission

    notes: list[str] = []
    mission = read_mission(target)
    fields = dict(mission or {"model": target})
    if small:
        fields, line = _cut(fields, given.get("catalog"), folder)
        given, notes = {**given, "catalog": None}, [line]
    if not {"cluster", "gpu"} & fields.keys():
        fields["cluster"] = HERE
    answer = made(_request(fields, target, given))
    body = plan_record(answer)
    return Planned(
        body=body, spec=answer.question.model, catalog=answer.question.catalog,
        notes=(*notes, body["verdict"], *answer.question.derived),
        write=lambda path: written(path, "plan", SCHEMA_VERSION, body),
    )  # fmt: skip


def _request(fields: dict[str, Any], target: str, given: dict[str, Any]) -> Any:
    from crore.cli.request import laid_over

    fields = {**fields, "stack": "crore"}
    return laid_over(fields, target, given)


def _cut(
    fields: dict[str, Any], catalog_file: Path | None, folder: Path
) -> tuple[dict[str, Any], str]:
    """Return the fields of the cut-down mission, and what the full shape is and needs."""
    from crore.catalog import load_catalog
    from crore.cost import parameters
    from crore.cost.shape import shape_of
    from crore.io import write_text
    from crore.train.settings import scaled_down
    from crore.train.small import built_parameters, catalogue_file

    full = load_catalog(catalog_file).model(fields["model"])
    small = scaled_down(full)
    path = folder / "model.toml"
    write_text(path, catalogue_file(small, "cut down by crore train --scale small"))
    counted, told = built_parameters(full), int(parameters(shape_of(full)))
    line = (
        f"{full.name}: {counted:,} parameters built without memory, the catalogue says {told:,}; "
        f"trained here as {small.name} ({int(parameters(shape_of(small))):,})"
    )
    kept = {key: fields[key] for key in ("title", "note", "source") if key in fields}
    asked: dict[str, Any] = {
        "model": small.name, "catalog_file": path, "cluster": HERE, "precision": "fp32",
        "seq_len": min(int(fields.get("seq_len") or SMALL_SEQ), SMALL_SEQ), "tokens": SMALL_TOKENS,
        "global_batch": SMALL_BATCH,
    }  # fmt: skip
    return kept | asked, line


SMALL_SEQ, SMALL_BATCH, SMALL_TOKENS = 256, 8, 500_000
