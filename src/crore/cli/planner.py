"""`crore serve --planner`: the page of a sweep, with live answers for what is off its grid."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crore.cli.needs import need_packages
from crore.errors import MAX_MESSAGE_CHARS, InputError

if TYPE_CHECKING:
    from crore.io import Record
    from crore.plan import PlanRequest
    from crore.serve.server import Binding
    from crore.serve.site import Site

Planner = Annotated[
    bool,
    typer.Option("--planner", help="The planner's page: of a mission or a sweep.json."),
]
DEFAULT = "baichuan13b_3090"
"""Cheap to sweep, and what many ask first."""
ROOMS = ("units.py", "catalog", "cost", "plan")
"""What a sweep is computed from."""


def serve_planner(target: str | None, binding: "Binding", catalog: Path | None) -> None:
    """Serve the planner alone until SIGTERM; KeyboardInterrupt on SIGINT.

    Raises InputError for a target that is no mission or sweep, and where a package is missing.
    """
    need_packages("serve --planner", "starlette", "uvicorn", extra="report")
    from crore.serve.server import answer, hosts_of, listen, url_of
    from crore.serve.site import site_application

    with listen(binding) as listening, planner_site(target, catalog, binding.key) as site:

        def ready() -> None:
            typer.echo(f"the planner at {url_of(listening)}/; Ctrl-C ends it")

        answer(listening, site_application(site, hosts_of(binding)), ready)


@contextlib.contextmanager
def planner_site(target: str | None, catalog: Path | None, key: str) -> Iterator["Site"]:
    """Give the site of a target's planner; searches under way end with the block."""
    from crore.report.html import page
    from crore.report.live import choices, live_of
    from crore.serve.site import Site

    sheet, swept = _swept(target, catalog)
    _check_fits(sheet, swept)
    live = live_of(swept, sheet["points"])
    text = page({**sheet, "live": choices(live)})
    try:
        yield Site(pages={"/": text.encode()}, asks={"/plan": live.reply}, key=key)
    finally:
        live.stop()


def _check_fits(sheet: "Record", swept: "Record") -> None:
    """Tell on stderr that a page begins with what does not fit.

    Raises Infeasible, with what would do, where no number of GPUs fits.
    """
    from crore.cli.plan import made
    from crore.plan.saved import request_from

    if not any(entry["plan"] for entry in swept["at"]):
        made(request_from(swept["request"], "the sweep"))
    own = sheet["points"][sheet["own"]]
    if own["state"] in ("short", "none"):
        why = " ".join(filter(None, [own["verdict"], own["reason"]]))
        typer.echo(f"the page begins with {own['aria']}: {why}"[:MAX_MESSAGE_CHARS], err=True)


@contextlib.contextmanager
def beside(catalog: Path | None, key: str) -> Iterator[dict[str, "Site"]]:
    """Give the planner's site for a server whose front page is a model's, by its path."""
    with planner_site(None, catalog, key) as site:
        yield {"/planner": site}


def is_model(target: str | None) -> bool:
    """Return whether a target is one to talk to, and no mission."""
    from crore.serve.models import PACKAGED

    if target is None:
        return False
    return Path(target).is_dir() or target.endswith(".gguf") or target.lower() == PACKAGED


def _swept(target: str | None, catalog: Path | None) -> "tuple[Record, Record]":
    """Return a target's sheet and sweep, made now or taken from the user's cache."""
    from crore.cli.document import called_as

    if target is None:
        target = DEFAULT
        typer.echo(f"no mission given: begins with {DEFAULT}", err=True)
    words = ["report", target, *(["--catalog", str(catalog)] if catalog else [])]
    with called_as(words):  # what makes this page again; the command line may hold a key
        return _made(target, catalog)


def _made(target: str, catalog: Path | None) -> "tuple[Record, Record]":
    from crore.cli.report import sheet_and_sweep

    file = Path(target)
    if not target.endswith(".json"):
        file = _kept(_request(target, catalog))
    elif catalog is not None:
        raise InputError(f"{file.name[:60]} keeps the catalogue it was made with: no --catalog")
    elif not file.is_file():
        raise InputError(f"no file {target[-100:]}: crore report MISSION --sweep FILE makes one")
    else:
        return sheet_and_sweep(target, None, None, alone=False)
    if not file.exists():
        typer.echo("71 searches, once: they are kept", err=True)
    return sheet_and_sweep(target, catalog, file, alone=False)


def _request(target: str, catalog: Path | None) -> "PlanRequest":
    from crore.catalog import load_catalog
    from crore.cli.report import check_limits
    from crore.cli.request import mission_hint
    from crore.cli.sites import wanted
    from crore.plan import read_mission
    from crore.plan.resolve import resolve
    from crore.plan.sweep import bare

    if read_mission(target) is None:
        hint = mission_hint(target, f"{DEFAULT}, for example")
        raise InputError(f"--planner takes a mission or a sweep.json, not {target[:60]}: {hint}")
    request = wanted(target, catalog)
    check_limits(request)
    known = load_catalog(request.catalog_file)
    asked = bare(request, known)
    resolve(asked, known)  # a sweep would say the same of every count
    return asked


def _kept(request: "PlanRequest") -> Path:
    """Return the file of a request's sweep in the user's cache; one that is damaged is deleted."""
    from crore.io import cache_folder, dump_json
    from crore.plan.record import request_record
    from crore.report.sweeping import SWEEP_VERSION, read_sweep

    asked = dump_json("sweep", SWEEP_VERSION, request_record(request))
    extra = request.catalog_file.read_bytes() if request.catalog_file else b""
    digest = hashlib.sha256(asked.encode() + extra + _code_sha256().encode()).hexdigest()
    folder = cache_folder() / "sweeps"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot keep a sweep in {str(folder)[-80:]}: {error.strerror}") from error
    file = folder / f"{digest[:24]}.json"
    if file.exists():
        try:
            read_sweep(file)
        except InputError:
            file.unlink()
    return file


def _code_sha256() -> str:
    """Return the hash of what a sweep is computed with: code, constants, catalogue."""
    import crore

    total = hashlib.sha256()
    for room in ROOMS:
        place = Path(crore.__file__).parent / room
        files = [place] if place.is_file() else sorted(place.rglob("*.[pt][yo]*"))
        for path in files:
            if path.suffix in (".py", ".toml"):
                total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
