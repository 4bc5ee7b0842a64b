"""`crore serve` as its clients meet it: the official one, and those that do as they should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from tests.serve.served import CHAT, GIVE_UP_S, HELLO, Served, get

FREE = 'root ::= "%s"'


@pytest.fixture
def client(server):
    """Return the official client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="right", max_retries=0) as made:
        yield made


def chat(client, **more):
    return client.chat.completions.create(model="tiny", messages=HELLO, **more)


def test_the_official_client_chats(client):
    answer = chat(client, max_tokens=50, extra_body={"grammar": FREE % "yes sir"})
    assert answer.choices[0].message.content == "yes sir"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len("yes sir") + 1
    assert answer.model == "tiny"


def test_the_official_client_streams(client):
    stream = chat(
        client, stream=True, extra_body={"grammar": FREE % "streamed"},
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    parts = [c.choices[0].delta.content for c in chunks if c.choices]
    assert [part for part in parts if part] == list("streamed")
    assert chunks[-1].usage.completion_tokens == len("streamed") + 1


def test_the_official_client_lists_models_and_completes_text(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    made = client.completions.create(
        model="tiny", prompt="x", max_tokens=9, extra_body={"grammar": FREE % "text"}
    )
    assert made.choices[0].text == "text"


def test_the_official_client_reads_our_errors(client, server):
    with pytest.raises(openai.BadRequestError, match="this server gives at most 200"):
        chat(client, max_tokens=201)
    with pytest.raises(openai.BadRequestError, match="exceeds the available context"):
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x" * 1000}]
        )
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="no or wrong API key"):
        wrong.models.list()
    wrong.close()
    with pytest.raises(openai.NotFoundError, match="POST /v1/embeddings is not offered"):
        client.embeddings.create(model="tiny", input="x")


def test_an_answer_ends_at_the_limit_when_the_client_names_none(client):
    answer = chat(client, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"{bad"}, 400),
        ({"content": b""}, 400),
        ({"content": b"[" * 500_000}, 400),
        ({"content": b"\xff\xfe\x00"}, 400),
        ({"json": []}, 400),
        ({"json": {}}, 400),
        ({"json": {"messages": "hello"}}, 400),
        ({"json": {"messages": [{"role": "user"}]}}, 400),
        ({"json": {"messages": HELLO, "max_tokens": "many"}}, 400),
        ({"json": {"messages": HELLO, "n": 1000}}, 400),
        ({"json": {"messages": HELLO, "grammar": "root ::= ("}}, 400),
        ({"content": b"a" * 10_000_000}, 413),
        ({"content": (b"a" * 100_000 for _ in range(100))}, 413),
        ({"json": {"messages": HELLO}, "key": "wrong"}, 401),
        ({"json": {"messages": HELLO}, "headers": {"origin": "http://evil.example"}}, 403),
        ({"json": {"messages": HELLO}, "headers": {"host": "evil.example"}}, 400),
        ({"json": {}, "path": "/slots/0?action=erase"}, 404),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0][:50],  # the same in every process
)
def test_a_bad_request_gets_its_status_and_the_server_lives(server, request_, status):
    answer = server.post(**request_)
    assert answer.status_code == status
    if "host" not in request_.get("headers", {}):
        assert answer.json()["error"]["message"]
    assert server.answers()


def busy(server: Served) -> int:
    """Return how many answers the engine makes or has waiting."""
    text = get(f"{server.url}/metrics", headers={"authorization": "Bearer right"}).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return sum(
        int(float(lines[f"llamacpp:requests_{kind}"])) for kind in ("processing", "deferred")
    )


def wait_until_idle(server) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while busy(server):
        assert time.monotonic() < deadline, "an answer that nobody waits for goes on"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_stops_when_its_client_leaves(server, stream):
    body = json.dumps({"messages": HELLO, "ignore_eos": True, "stream": stream}).encode()
    url = urlsplit(server.url)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer right\r\n"
    for _ in range(8):  # more than there are slots and room to wait
        with socket.create_connection((url.hostname, url.port), timeout=GIVE_UP_S) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if stream:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        wait_until_idle(server)
    assert server.answers()


def test_a_body_that_never_comes_holds_nothing_up(server):
    url = urlsplit(server.url)
    with contextlib.ExitStack() as held:
        for _ in range(20):
            slow = held.enter_context(socket.create_connection((url.hostname, url.port)))
            slow.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: {url.netloc}\r\n".encode())
            slow.sendall(b"Authorization: Bearer right\r\nContent-Length: 100\r\n\r\n{")
        assert server.answers()


def test_more_than_the_server_takes_on_is_refused_and_the_rest_answered(server):
    async def ask(client, number: int) -> int:
        # Long enough for the last to come while the first are still answered.
        word = f"{number} {'a' * 140}"
        body = {"messages": HELLO, "grammar": FREE % word, "max_tokens": 150}
        answer = await client.post(server.url + CHAT, json=body)
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["message"]["content"] == word
        else:
            assert answer.headers["retry-after"] == "1"
        return int(answer.status_code)

    async def all_at_once() -> list[int]:
        headers = {"authorization": "Bearer right"}
        async with httpx2.AsyncClient(headers=headers, timeout=GIVE_UP_S) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(40)))

    statuses = asyncio.run(all_at_once())
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 4
    assert server.answers()


def test_the_page_is_there_for_anyone_and_its_data_for_those_with_a_key(server):
    page = get(server.url)
    assert page.status_code == 200
    assert "<!doctype html>" in page.text.lower()
    for path in ("/v1/models", "/models", "/props", "/metrics"):
        assert get(server.url + path).status_code == 401, path
    assert get(f"{server.url}/health").json() == {"status": "ok"}
