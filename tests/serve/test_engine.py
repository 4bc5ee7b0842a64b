"""The engine answers piece by piece, stops when left, and says why it cannot."""

from __future__ import annotations

import os
import re

import httpx2
import pytest
from tests.serve.served import GIVE_UP_S, HELLO, get
from tests.serve.tiny_gguf import write_tiny

from crore.errors import InputError
from crore.serve.engine import AnswerError, EngineSettings, start, threads_of

LONG = 1 << 16
"""Tokens of an answer that takes half a minute."""


def text(pieces) -> str:
    return "".join(piece.text for piece in pieces)


def test_an_answer_comes_in_pieces_and_ends_with_its_count(engine):
    pieces = list(engine.chat(HELLO, max_tokens=20, temperature=0, grammar='root ::= "yes"'))
    assert text(pieces) == "yes"
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    assert pieces[-1].tokens == 4  # three letters and the end
    assert pieces[-1].tokens_per_s > 0


def test_the_longest_answer_is_kept_to(engine):
    pieces = list(engine.chat(HELLO, max_tokens=7, ignore_eos=True))
    assert pieces[-1].tokens == 7
    assert "length" in {piece.finish for piece in pieces}


def test_leaving_an_answer_stops_it(tmp_path):
    path = write_tiny(tmp_path / "long.gguf", context=LONG + 256)
    engine = start(EngineSettings(path=path, context=LONG + 256, threads=1))
    for piece in engine.chat(HELLO, max_tokens=LONG, ignore_eos=True):
        if piece.text:
            break
    assert text(engine.chat(HELLO, max_tokens=5, grammar='root ::= "ok"')) == "ok"
    told = engine.server.handle_metrics()
    [predicted] = re.findall(r"^llamacpp:tokens_predicted_total (\d+)", told, re.M)
    assert 2 < int(predicted) < LONG / 2
    engine.close()


def test_a_conversation_beyond_the_context_is_told_apart(engine):
    with pytest.raises(AnswerError, match="exceeds the available context") as caught:
        list(engine.chat([{"role": "user", "content": "x" * 500}]))
    assert caught.value.too_long


def test_a_request_it_does_not_understand_is_an_error(engine):
    with pytest.raises(AnswerError, match="the engine did not answer") as caught:
        list(engine.chat(HELLO, grammar="root ::= ("))
    assert not caught.value.too_long


def test_a_context_is_never_beyond_what_the_model_knows(engine, tmp_path):
    assert engine.context == 256
    path = write_tiny(tmp_path / "long.gguf", context=1024)
    for asked, given in ((16, 256), (257, 512), (4096, 1024)):
        made = start(EngineSettings(path=path, context=asked, threads=1))
        body = {"prompt": "x" * 2000, "n_predict": 1}
        assert made.context == made.server.handle_completions(body)["error"]["n_ctx"] == given
        made.close()


def test_its_own_http_server_asks_for_a_key_and_shows_no_page(engine):
    assert get(f"{engine.address}/v1/models").status_code == 401
    chat = f"{engine.address}/v1/chat/completions"
    assert httpx2.post(chat, json={"messages": HELLO}, timeout=GIVE_UP_S).status_code == 401
    key = {"authorization": f"Bearer {engine.key}"}
    body = {"messages": HELLO, "max_tokens": 1}
    assert httpx2.post(chat, json=body, headers=key, timeout=GIVE_UP_S).status_code == 200
    assert get(engine.address, headers=key).status_code == 404


def test_all_cores_but_one_answer():
    assert threads_of(3) == 3
    assert threads_of(0) == max(1, len(os.sched_getaffinity(0)) - 1)


def test_a_model_it_cannot_load_is_one_line(tiny, tmp_path):
    whole = tiny.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot load .*cut.gguf \(architecture llama\)"):
        start(EngineSettings(path=cut, threads=1))


def test_whether_a_model_was_taught_turns_is_read_from_its_file(engine, pretrained):
    assert engine.chats
    base = start(EngineSettings(path=pretrained, threads=1))
    assert not base.chats
    assert list(base.complete("hello", max_tokens=3, ignore_eos=True))[-1].tokens == 3
    base.close()


@pytest.mark.parametrize("wrong", [{"context": 1}, {"slots": 0}, {"threads": -1}])
def test_settings_are_checked(tmp_path, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be a whole number from"):
        EngineSettings(path=tmp_path / "x.gguf", **wrong)


def test_the_key_is_new_each_time(tmp_path):
    path = write_tiny(tmp_path / "a.gguf", layers=1)
    engines = [start(EngineSettings(path=path, threads=1)) for _ in range(2)]
    assert engines[0].key != engines[1].key
    for made in engines[::-1]:  # closed before they ever answered, the later one first
        made.close()
