"""The house rules: who may import whom, how long a file may be, what needs no torch."""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "crore"
MODULES = sorted(SOURCE.rglob("*.py"))
OUR_CODE = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]
OUR_CODE += sorted((ROOT / "benchmarks").rglob("*.py"))

BASE = {"", "units", "errors", "io"}  # "" is crore/__init__.py, which holds the version
PLANNER = BASE | {"catalog", "cost", "plan"}
TORCH_FREE = PLANNER | {"simulate", "launch", "report", "cli", "__main__"}
EVERYTHING = TORCH_FREE | {"model", "train", "rehearse", "serve"}
# Room -> the rooms it may import besides itself. One way only: docs/design/0001-the-house.md.
MAY_IMPORT = {
    "": set(),
    "errors": set(),
    "units": {"errors"},
    "io": {"", "errors", "units"},
    "catalog": BASE,
    "cost": BASE | {"catalog"},
    "plan": PLANNER,
    "simulate": PLANNER,
    "launch": PLANNER,
    "model": PLANNER,
    "train": PLANNER | {"model"},
    "rehearse": PLANNER | {"model", "train"},
    "serve": PLANNER | {"model"},
    "report": PLANNER | {"simulate", "launch"},
    "cli": EVERYTHING - {"__main__"},
    "__main__": {"cli"},
}
# Third-party packages of the core install; only the command line talks to typer.
CORE_PACKAGES = {"highspy", "numpy", "pydantic", "rich"}
FILE_CAP, FUNCTION_CAP, FUNCTION_MEDIAN = 400, 60, 10


def room_of(path: Path) -> str:
    """Return the room a source file is in: the first part of its path below crore/."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def imports(path: Path) -> set[str]:
    """Return the dotted names a file imports anywhere, lazy and type-checking imports included."""
    package = ["crore", *path.relative_to(SOURCE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    """Return the rooms of crore that a file imports; a name of crore/__init__.py is room ""."""
    parts = [name.split(".") for name in imports(path)]
    rooms = {name[1] if len(name) > 1 else "" for name in parts if name[0] == "crore"}
    return {room if room in MAY_IMPORT else "" for room in rooms}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method of a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def short(path: Path) -> str:
    """Return a path as one reads it in a failure."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_imports_go_one_way(path):
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} has no place in the import order yet"
    assert rooms_imported(path) - {room} <= MAY_IMPORT[room]


def test_the_import_order_has_no_cycle():
    seen: set[str] = set()
    while rest := {room for room in MAY_IMPORT if room not in seen}:
        ready = {room for room in rest if MAY_IMPORT[room] - {room} <= seen}
        assert ready, f"cycle among {rest}"
        seen |= ready


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in TORCH_FREE], ids=short)
def test_the_torch_free_rooms_use_the_core_packages_alone(path):
    allowed = CORE_PACKAGES | {"crore"} | ({"typer"} if room_of(path) == "cli" else set())
    used = {name.partition(".")[0] for name in imports(path)}
    assert used - sys.stdlib_module_names <= allowed


def run_without(blocked: str, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run crore where importing any of the `blocked` modules fails, and list what it imported."""
    script = (
        f"import sys\nfor name in {blocked.split()!r}: sys.modules[name] = None\n"
        "from crore.cli import run\n"
        f"code = run({arguments!r})\n"
        "print(*sorted(k for k, v in sys.modules.items() if v), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["catalog", "models"],
        ["catalog", "gpus", "h100-sxm"],
        ["plan", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpus", "8", "-o", "plan.json"],
        ["launch", "llama3_405b", "--to", "megatron", "-o", "job"],
        ["validate", "runs.jsonl", "--predictions", "predictions.jsonl"],
    ],
    ids=" ".join,
)
def test_every_planner_verb_works_without_torch(arguments, tmp_path):
    published = ROOT / "tests" / "published" / "runs.jsonl"
    lines = published.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "runs.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
    done = run_without("torch scipy transformers", arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_imports_nothing_heavy(tmp_path):
    done = run_without("torch", ["--help"], tmp_path)
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "pydantic", "rich", "tomllib", "asyncio", "crore.plan"}


@pytest.mark.parametrize("path", OUR_CODE, ids=short)
def test_files_and_functions_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_CAP
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < FUNCTION_CAP, function.name


def test_half_of_our_functions_are_ten_lines_or_fewer():
    def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        first = function.body[0]
        doc = ast.get_docstring(function) is not None
        documentation = (first.end_lineno or 0) - first.lineno + 1 if doc else 0
        return (function.end_lineno or 0) - function.lineno + 1 - documentation

    lengths = [code_lines(function) for path in MODULES for function in functions(path)]
    assert statistics.median(lengths) <= FUNCTION_MEDIAN


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_public_things_are_documented_and_typed(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, f"{node.name} has no return type"


@pytest.mark.parametrize(
    "package",
    [p.parent for p in MODULES if p.name == "__init__.py" and room_of(p) in TORCH_FREE],
    ids=short,
)
def test_every_exported_name_exists(package):
    name = ".".join(["crore", *package.relative_to(SOURCE).parts])
    module = importlib.import_module(name)
    assert module.__all__, f"{name} exports nothing"
    for exported in module.__all__:
        assert hasattr(module, exported), f"{name}.{exported}"
