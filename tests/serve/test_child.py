"""Engines with a server of their own behind crore's front: transformers' real one, and pretended
ones that end too early, or will not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.serve.served import CHAT, GIVE_UP_S, HELLO, get, served
from tests.train.tune.tiny import write_model

from crore.cli import run
from crore.errors import InputError
from crore.serve import child, remote
from crore.serve.engine import AnswerError

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
STUBBORN = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getpid()} {os.environ['THE_KEY']} {sys.argv[1:]}".encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Well).serve_forever()
"""


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="any", messages=HELLO, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a Hugging Face model of a few thousand weights that knows turns."""
    return write_model(tmp_path_factory.mktemp("hf") / "small", template=TEMPLATE)


@pytest.fixture(scope="module")
def server(folder):
    """Return a running `crore serve --engine transformers`."""
    pytest.importorskip("fastapi", reason="transformers serves with it")
    flags = ["--engine", "transformers", "--api-key", "right", "--max-tokens", "20"]
    with served(str(folder), *flags) as running:
        yield running


def test_transformers_answers_the_official_client_behind_our_key_and_limits(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="right", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["small"]
        made = chat(client, max_tokens=5)
        assert made.usage.completion_tokens <= 5
        assert isinstance(made.choices[0].message.content, str)
        stream = chat(client, max_tokens=5, temperature=0, stream=True)
        assert [c.choices[0].finish_reason for c in stream if c.choices][-1] in ("stop", "length")
        with pytest.raises(openai.BadRequestError, match="this server gives at most 20"):
            chat(client, max_tokens=21)


def test_a_client_cannot_have_transformers_load_another_model_or_what_is_not_offered(server):
    asked = {"messages": HELLO, "max_tokens": 2, "model": "someone/other-model"}
    assert server.post(json=asked).status_code == 200
    for path in ("/load_model", "/reset", "/v1/responses"):
        assert server.post(path, json={"model": "someone/other-model"}).status_code == 404
    assert server.post(json=asked, key="wrong").status_code == 401
    assert get(f"{server.url}/v1/models").status_code == 401
    assert server.post(CHAT, content=b"{").status_code == 400
    assert server.answers()


def test_a_conversation_goes_through_transformers(folder, capsys):
    pytest.importorskip("fastapi", reason="transformers serves with it")
    flags = ["--engine", "transformers", "--max-tokens", "6", "--temperature", "0", "--json"]
    assert run(["chat", str(folder), "--ask", "hello", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["question"]) == ("small", "hello")
    assert 1 <= found["tokens"] <= 6
    assert found["finish"] in ("stop", "length")


def test_a_stream_is_read_as_each_server_writes_it():
    words = {"choices": [{"delta": {"content": "yes"}}]}
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None}
    usage = {"choices": [], "usage": {"completion_tokens": 3}}
    lines = [f"data: {json.dumps(it)}" for it in (words, words, last, usage)]
    pieces = list(remote._pieces(iter([*lines, "", ": ping", "data: [DONE]"])))
    assert "".join(piece.text for piece in pieces) == "yesyes"
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    assert pieces[-1].tokens == 3
    assert pieces[-1].tokens_per_s > 0
    with pytest.raises(AnswerError, match="out of memory"):
        list(remote._pieces(iter(['data: {"error": "out of memory"}'])))


@pytest.mark.parametrize(
    "body", ['{"error": {"message": "no such"}}', '{"detail": "no such"}', "no such"]
)
def test_a_refusal_is_told_in_the_servers_words(body):
    assert str(remote._refusal(body.encode())) == "the engine did not answer: no such"


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Put a script in transformers' place."""

    def _pretended(script: str) -> None:
        (tmp_path / "engine.py").write_text(script)
        words = (str(tmp_path / "engine.py"), "{port}", "{name}")
        other = child.Other(needs=("json",), install="", command=words, key="THE_KEY")
        monkeypatch.setattr(child, "OTHERS", {"pretended": other})

    return _pretended


def test_an_engine_that_ends_early_is_told_with_its_last_words(pretended, tmp_path):
    pretended("import sys; print('a line'); sys.exit('no kernel image for this card')")
    with (
        pytest.raises(InputError, match="pretended ended before it served: no kernel image"),
        child.running("pretended", tmp_path, "name"),
    ):
        pass


def test_nobody_is_given_the_port_of_an_engine_that_still_loads():
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given.exists():
        pytest.skip("no such setting on this system")
    lowest = int(given.read_text(encoding="utf-8").split()[0])
    assert max(child.PORTS) < lowest
    assert child.free_port() in child.PORTS


def test_an_engine_has_a_key_of_its_own_and_ends_with_the_block(pretended, tmp_path, monkeypatch):
    pretended(STUBBORN)
    monkeypatch.setattr(child, "LEAVING_S", 0.2)
    with child.running("pretended", tmp_path, "a name") as behind:
        said = get(behind.address).text
        pid, key, words = said.split(maxsplit=2)
        assert key == behind.key
        assert behind.model == "a name"
        assert words.endswith("'a name']")
    gone = subprocess.run(["kill", "-0", pid], check=False, stderr=subprocess.DEVNULL)
    assert gone.returncode == 1


DEAF = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
time.sleep(600)
"""
WELL = DEAF.replace("time.sleep(600)\n", STUBBORN.replace("signal.SIG_IGN", "signal.SIG_DFL"))
FRONT = """
import sys
from crore.cli import run
from crore.serve import child
engine, pid_file, folder = sys.argv[1:]
words = (engine, "{port}", pid_file)
child.OTHERS = {"pretended": child.Other(needs=("json",), install="", command=words, key="THE_KEY")}
sys.exit(run(["serve", folder, "--engine", "pretended", "--port", "0"]))
"""


def is_there(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("script", [DEAF, WELL], ids=["not yet", "it answers"])
def test_sigterm_takes_the_engine_along_whether_or_not_it_answers_yet(script, folder, tmp_path):
    engine, pid_file, front = (tmp_path / name for name in ("engine.py", "pid", "front.py"))
    engine.write_text(script)
    front.write_text(FRONT)
    process = subprocess.Popen(
        [sys.executable, front, engine, pid_file, folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    end = time.monotonic() + GIVE_UP_S
    while not (pid_file.is_file() and pid_file.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    if script == WELL:  # until the front, too, hears signals itself
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        assert get(f"{address[0]}/healthz").status_code == 200
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert (process.returncode, said) == (child.TERMINATED, "")
    assert not is_there(pid)


def test_sigterm_that_comes_while_the_engine_is_begun_waits_for_there_to_be_one():
    leaving = child._Leaving()
    with leaving.heard():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            leaving.arm()
        signal.raise_signal(signal.SIGTERM)  # while it is ended: heard, and no more
    assert left.value.code == child.TERMINATED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_engine_that_is_not_here_is_one_line_with_the_one_that_installs_it(
    folder, monkeypatch, capsys
):
    lacking = {
        name: replace(other, needs=("no_such_package",)) for name, other in child.OTHERS.items()
    }
    monkeypatch.setattr(child, "OTHERS", lacking)
    for engine, install in (
        ("vllm", "pip install vllm"), ("transformers", "pip install 'transformers[serving]>=5'"),
    ):  # fmt: skip
        assert run(["serve", str(folder), "--engine", engine]) == 2
        assert capsys.readouterr().err == (
            f"crore: --engine {engine} needs {engine}'s server: {install}\n"
        )


def test_another_engine_wants_a_run_or_a_folder(monkeypatch, capsys, tiny):
    there = {name: replace(other, needs=()) for name, other in child.OTHERS.items()}
    monkeypatch.setattr(child, "OTHERS", there)
    for target in ([], [str(tiny)], ["nowhere"]):
        assert run(["serve", *target, "--engine", "vllm", "--port", "0"]) == 2
        said = capsys.readouterr().err
        assert "--engine vllm serves a run or a Hugging Face folder: give one" in said
