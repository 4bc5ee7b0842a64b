"""`crore serve --planner` as those meet it who ask well, badly, slowly and all at once."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.cli.planner_served import Planner, planner, write_sweep
from tests.report.small_sweep import small_sweep
from tests.serve.served import GIVE_UP_S, get, served
from tests.serve.tiny_gguf import write_tiny

from crore.cli import run
from crore.io import read_json, write_json
from crore.plan import PlanRequest
from crore.plan.record import request_record
from crore.plan.sweep import sweep
from crore.report.live import live_of
from crore.report.scenario import KEYS
from crore.report.sheet import sheet_of
from crore.report.sweeping import SWEEP_VERSION, entry_of
from crore.serve import patience

H100 = {"model": "llama-3.1-8b", "gpu": "h100-sxm"}
CLIENTS = 50
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "planner.md"


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def server(sweep_file):
    with planner(str(sweep_file)) as running:
        yield running


@pytest.fixture(scope="module")
def known():
    """The same planner in this process."""
    swept = small_sweep()
    return live_of(swept, sheet_of(swept, "mission")["points"])


def test_the_page_is_that_of_crore_report_with_a_planner_behind_it(server, sweep_file):
    html = get(server.url).text
    text = html.partition('id="sheet">')[2].partition("</script>")[0]
    sheet = json.loads(text)
    assert sheet["live"]["url"] == "plan"
    assert len(sheet["points"]) == len(read_json(sweep_file, "sweep", 1)["at"])
    assert sheet["command"] == f"crore report {sweep_file}"
    assert len(html.encode()) < 500_000


@pytest.mark.parametrize("gpus", ["1", "100", "64", "16k", "9999999"])
def test_an_answer_is_that_of_the_same_question_in_process(server, known, gpus):
    answer = server.ask(**H100, gpus=gpus)
    assert answer.status_code == 200
    assert answer.json() == json.loads(json.dumps(known.answer({**H100, "gpus": gpus})))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({**H100, "gpu": "h100-smx", "gpus": "8"}, "did you mean h100-sxm"),
        ({**H100, "model": "meta-llama/Llama-9", "gpus": "8"}, "all: crore catalog models"),
        ({**H100, "gpus": "-5"}, "did you mean 5?"),
    ],
)
def test_bad_input_is_one_line_with_what_is_near(server, asked, said):
    answer = server.ask(**asked)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert len(answer.json()["error"]) <= 240


def test_an_impossible_target_says_what_would_do(server):
    answer = server.ask(model="llama-3.1-405b", gpu="h100-sxm", gpus="8").json()
    assert answer["state"] == "short"
    assert "such GPUs hold it" in answer["change"][0]


def test_the_examples_of_the_guide_are_answered(server):
    text = GUIDE.read_text(encoding="utf-8")
    examples = re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)
    assert len(examples) == 2
    for example in examples:
        answer = server.ask(**json.loads(example))
        assert answer.status_code == 200
        assert "error" not in answer.json()


SCRIPT = "</script><script>document.title='owned'</script>"


@pytest.mark.parametrize("key", [*KEYS, "compare", "colour"])
def test_a_script_in_any_field_is_text_in_a_json_answer(server, key):
    for value in (SCRIPT, [SCRIPT, SCRIPT], {"a": SCRIPT}, f"s=1;model={SCRIPT}"):
        answer = server.ask(**{**H100, "gpus": "8", key: value})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.json()["error"]) <= 240
    assert server.alive()


POST = b"POST /plan HTTP/1.1\r\nhost: localhost\r\n"


def raw(server: Planner, text: bytes) -> bytes:
    """Send bytes as they are and return what comes back."""
    where = urlsplit(server.url)
    with socket.create_connection(
        (str(where.hostname), where.port or 0), timeout=GIVE_UP_S
    ) as line:
        line.sendall(text)
        line.shutdown(socket.SHUT_WR)
        return line.recv(200)


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        POST + b"content-length: -1\r\n\r\n",
        POST + b"content-length: 99999999999999999999\r\n\r\n{}",
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /%00%ff%c0%af HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_what_is_hardly_http_breaks_nothing(server, text):
    got = b""
    with contextlib.suppress(OSError):  # it may hang up before all is sent
        got = raw(server, text)
    assert b"root:" not in got
    assert server.alive()


def test_ten_megabytes_are_refused_and_not_kept(server):
    def resident_kb() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0])

    assert server.alive()  # what a first answer takes is taken
    before = resident_kb()
    for _ in range(3):
        with contextlib.suppress(httpx2.NetworkError, httpx2.RemoteProtocolError):
            answer = httpx2.post(f"{server.url}plan", content=b"1" * 10_000_000, timeout=GIVE_UP_S)
            assert answer.status_code == 413  # where it did not hang up before all was sent
    assert server.alive()
    assert resident_kb() - before < 20_000


def test_a_client_that_leaves_in_the_middle_changes_nothing(server):
    where = urlsplit(server.url)
    for sent in (POST, POST + b'content-length: 90\r\n\r\n{"model":'):
        with socket.create_connection((str(where.hostname), where.port or 0)) as line:
            line.sendall(sent)
    gone = http.client.HTTPConnection(str(where.hostname), where.port or 0)
    asked = {"model": "deepseek-v3", "gpu": "h100-sxm", "gpus": "2k"}
    gone.request("POST", "/plan", json.dumps(asked))
    gone.close()
    assert server.alive()


def test_those_that_dawdle_over_a_head_are_left(server):
    where, start, open_s = urlsplit(server.url), time.monotonic(), math.inf
    lines = [socket.create_connection((str(where.hostname), where.port or 0)) for _ in range(60)]
    try:
        while time.monotonic() - start < GIVE_UP_S:
            for line in lines:
                line.sendall(b"x")  # a byte of a head now and then
            assert server.alive()
            time.sleep(0.5)
    except OSError:
        open_s = time.monotonic() - start
    finally:
        for line in lines:
            line.close()
    assert patience.HEAD_S <= open_s < patience.HEAD_S + 5
    assert server.alive()


SOME = [
    {"model": model, "gpu": gpu, "gpus": gpus}
    for model in ("llama-3.1-8b", "smollm2-135m", "mistral-7b")
    for gpu in ("h100-sxm", "rtx-3090")
    for gpus in ("1", "8", "36", "1k", "-5")
]
"""What the crowd asks: fits, does not fit, and is refused."""


async def crowd(url: str, expected: list[Any], seconds: float) -> list[str]:
    """Ask from fifty clients until the time is over; return what came wrong, and how many."""
    end_s = time.monotonic() + seconds
    wrong: list[str] = []
    counts = [0] * CLIENTS

    async def client(number: int) -> None:
        order = random.Random(number)  # noqa: S311
        async with httpx2.AsyncClient(timeout=GIVE_UP_S) as made:
            while time.monotonic() < end_s or not counts[number]:
                which = order.randrange(len(SOME))
                got = await made.post(f"{url}plan", json=SOME[which])
                counts[number] += 1
                if got.status_code != 503 and got.json() != expected[which]:
                    wrong.append(f"{SOME[which]}: {got.status_code} {got.text[:200]}")

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return [*wrong, f"{sum(counts):,} answers, {min(counts)} to {max(counts)} a client"]


def check_crowd(server: Planner, known: Any, seconds: float) -> None:
    expected = []
    for asked in SOME:
        try:
            expected.append(json.loads(json.dumps(known.answer(asked))))
        except Exception as error:
            expected.append({"error": str(error)})
    *wrong, counted = asyncio.run(crowd(server.url, expected, seconds))
    print(f"{counted} in {seconds:g} s")
    assert wrong == []
    assert server.alive()


def test_fifty_clients_at_once_each_get_their_own_answer(server, known):
    check_crowd(server, known, 2)


@pytest.mark.drill
def test_fifty_clients_for_a_minute(server, known):
    check_crowd(server, known, 60)


def test_a_search_under_way_does_not_keep_it_from_leaving(sweep_file):
    with planner(str(sweep_file)) as running:
        asked = {"model": "deepseek-v3", "gpu": "gb200-nvl72", "gpus": "1M"}
        where = urlsplit(running.url)
        line = http.client.HTTPConnection(str(where.hostname), where.port or 0)
        line.request("POST", "/plan", json.dumps(asked))
        time.sleep(0.3)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=GIVE_UP_S) == 130
        line.close()


def test_the_key_is_asked_for_and_then_the_page_comes(sweep_file):
    with planner(str(sweep_file), "--api-key", "right") as running:
        assert get(running.url).status_code == 401
        page = get(running.url, auth=("me", "right"))
        assert page.status_code == 200
        assert "--api-key" not in page.text  # a page is handed on


@pytest.mark.drill
def test_a_model_to_talk_to_has_the_planner_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny = str(write_tiny(tmp_path / "tiny.gguf"))
    with served(tiny, "--planner", "--threads", "1") as both:
        assert both.answers()
        page = get(f"{both.url}/planner", follow_redirects=True)
        assert "Baichuan-13B on one RTX 3090" in page.text
        answer = both.post("/planner/plan", json={**H100, "gpus": "64"})
        assert answer.json()["state"] == "fits"
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    with planner("baichuan13b_3090") as kept:
        assert kept.alive()
    assert "searches" not in kept.said  # they were kept


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Return the one line that `crore serve --planner` with some words says."""
    monkeypatch.delenv("CRORE_API_KEY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def call(*words: str, code: int = 2) -> str:
        assert run(["serve", "--planner", *words]) == code
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert len(line) <= 241
        return str(line)

    return call


def test_what_it_cannot_serve_is_one_line(refused, tmp_path, sweep_file):
    def mission(text: str) -> str:
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "mine.toml")

    cluster = 'model = "llama-3.1-8b"\n[cluster]\ngpu = "{}"\ngpus = {}\n'
    assert "did you mean ten_million" in refused("ten_milion")
    assert "no file" in refused("nowhere.json")
    assert "one machine" in refused("this_machine")
    assert "keeps the catalogue" in refused(str(sweep_file), "--catalog", str(sweep_file))
    assert "--host 0.0.0.0 can be reached by others" in refused("--host", "0.0.0.0")  # noqa: S104
    assert "did you mean h100-sxm" in refused(mission(cluster.format("h100-smx", 8)))
    assert "positive whole number" in refused(mission(cluster.format("h100-sxm", '"-5"')))
    assert "unknown model 'llama-9'" in refused(
        mission(cluster.format("h100-sxm", 8).replace("llama-3.1-8b", "llama-9"))
    )


def sweep_of(folder: Path, gpus: int, counts: tuple[int, ...]) -> str:
    """Write a sweep of Llama 3.1 405B that begins with so many H100s."""
    request = PlanRequest(model="llama-3.1-405b", gpu="h100-sxm", gpus=gpus, tokens=10**12)
    at = [entry_of(found) for found in sweep(request, counts)]
    record = {"request": request_record(request), "counts": list(counts), "at": at}
    write_json(folder / "large.json", "sweep", SWEEP_VERSION, record)
    return str(folder / "large.json")


def test_an_impossible_target_is_one_line_with_what_would_do(refused, tmp_path):
    mission = tmp_path / "soon.toml"
    asked = '[cluster]\ngpu = "h100-sxm"\ngpus = 64\n[limits]\ndays = 1\n'
    mission.write_text(f'model = "llama-3.1-8b"\n[data]\ntokens = "1T"\n{asked}')
    said = refused(str(mission), code=1)
    assert re.search(r"takes [\d.]+ days, over the limit of 1; [\d,]+ such GPUs would do", said)
    said = refused(sweep_of(tmp_path, 8, (1, 8)), code=1)
    assert said.startswith("crore: does not fit: llama3.1-405b on 8 x h100-sxm needs at least")
    assert "64 such GPUs hold it" in said


def test_a_page_that_begins_with_what_does_not_fit_is_served_and_says_so(tmp_path):
    with planner(sweep_of(tmp_path, 8, (8, 1024))) as running:
        assert running.ask(model="llama-3.1-405b", gpu="h100-sxm", gpus="1024").json()["facts"]
    assert running.said.startswith("the page begins with 8 GPUs: DOES NOT FIT")
    assert "\n" not in running.said


def test_without_its_packages_it_says_what_to_install(sweep_file):
    script = (
        "import sys, importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvicorn' else found(name, *a)\n"
        "from crore.cli import run\n"
        f"sys.exit(run(['serve', '--planner', {str(sweep_file)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "crore: crore serve --planner needs uvicorn: pip install 'crore[report]'\n"
    )


def test_it_needs_neither_torch_nor_an_engine(sweep_file):
    script = (
        "import sys\n"
        "for name in 'torch xllamacpp gguf httpx2 transformers'.split(): sys.modules[name] = None\n"
        "import crore.serve.server as server\n"
        "server.answer = lambda listening, application, ready: ready()\n"
        "from crore.cli import run\n"
        f"sys.exit(run(['serve', '--planner', {str(sweep_file)!r}, '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the planner at http://127.0.0.1:" in done.stdout
