"""Files appear whole, carry their schema, and fail in one line."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from crore.errors import InputError, UnknownName
from crore.io import (
    cache_folder,
    check_keys,
    dump_json,
    exists,
    keep_inputs,
    read_json,
    read_jsonl,
    read_toml,
    write_json,
    write_jsonl,
    write_text,
)


def test_a_document_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "plan.json"
    write_json(path, "plan", 1, {"gpus": 8, "step": np.float64(1.5), "at": np.arange(2)})
    document = read_json(path, "plan", 1)
    assert document["schema"] == "crore.plan/1"
    assert (document["gpus"], document["step"], document["at"]) == (8, 1.5, [0, 1])


def test_another_kind_or_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, "plan", 2, {})
    with pytest.raises(InputError, match=r"schema crore\.plan/2; crore .* up to 1"):
        read_json(path, "plan", 1)
    with pytest.raises(InputError, match=r"must hold schema crore\.simulation"):
        read_json(path, "simulation", 1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": NaN}', "null", '{"schema": 3}', "[" * 100_000, "\x00"]
)
def test_what_is_no_document_is_one_line(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_json(path, "plan", 1)
    assert "\n" not in str(caught.value)
    assert "bad.json" in str(caught.value)


def test_a_number_json_cannot_hold_is_our_bug_not_a_broken_file():
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json("plan", 1, {"step": float("nan")})


def test_a_missing_file_names_its_likely_sibling(tmp_path):
    (tmp_path / "runs.jsonl").write_text("")
    with pytest.raises(InputError, match=r"did you mean runs\.jsonl\?"):
        read_jsonl(tmp_path / "run.jsonl")


def test_json_lines_name_the_bad_line(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(InputError, match=r"runs\.jsonl:3 is not valid JSON"):
        read_jsonl(path)
    write_jsonl(path, [{"a": 1}, {"b": 2}])
    assert read_jsonl(path) == [{"a": 1}, {"b": 2}]


def test_a_folder_or_binary_file_is_refused(tmp_path):
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        read_toml(tmp_path)
    with pytest.raises(InputError, match="not UTF-8"):
        read_toml(tmp_path / "b")


def test_bad_toml_names_the_line(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text("gpus = 8\nmodel = \n")
    with pytest.raises(InputError, match="line 2"):
        read_toml(path)


def test_an_unknown_key_is_never_ignored():
    with pytest.raises(UnknownName, match=r"unknown key in m\.toml 'gpuss'; did you mean gpus"):
        check_keys({"gpuss": 1}, ("gpus", "model"), "m.toml")
    with pytest.raises(InputError, match=r"m\.toml lacks model"):
        check_keys({"gpus": 1}, ("gpus", "model"), "m.toml", required=("model",))


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    write_text(path, "old")

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_keeps_links_and_goes_straight_into_pipes(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"
    write_text(tmp_path / "target", "y")
    write_text(type(tmp_path)(os.devnull), "z")
    assert (tmp_path / "target").read_text() == "y"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path / "no" / "plan.json", "plan", 1, {})


def test_documents_are_readable_json():
    assert json.loads(dump_json("plan", 1, {"where": {"b", "a"}}))["where"] == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "m.toml").write_text("gpus = 8\n", encoding="utf-8-sig")
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n', encoding="utf-8-sig")
    assert read_toml(tmp_path / "m.toml") == {"gpus": 8}
    assert read_jsonl(tmp_path / "r.jsonl") == [{"a": 1}]


def test_a_line_separator_inside_a_text_ends_no_record(tmp_path):
    write_jsonl(tmp_path / "r.jsonl", [{"a": "one\u2028two"}])
    assert read_jsonl(tmp_path / "r.jsonl") == [{"a": "one\u2028two"}]


@pytest.mark.parametrize("text", [f"a = 1{'0' * 5000}", f"a = {'[' * 5000}{']' * 5000}"])
def test_toml_that_python_cannot_hold_is_one_line(tmp_path, text):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(InputError, match=r"m\.toml is not valid TOML"):
        read_toml(tmp_path / "m.toml")


def test_a_file_that_is_read_is_not_written_by_any_of_its_names(tmp_path, monkeypatch):
    read, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    read.write_text("")
    (tmp_path / "link").symlink_to(read)
    monkeypatch.chdir(tmp_path)
    for name in (
        read,
        tmp_path / "link",
        type(read)("a.jsonl"),
        tmp_path / ".." / read.parent.name / "a.jsonl",
    ):
        with pytest.raises(InputError, match="is read here and would be lost"):
            keep_inputs(name, [other, read])
    keep_inputs(other, [read, type(read)("x" * 5000)])
    keep_inputs(type(read)(os.devnull), [type(read)(os.devnull)])


def test_what_no_file_system_can_name_does_not_exist(tmp_path):
    assert exists(tmp_path)
    assert not exists(tmp_path / ("x" * 5000))
    assert not exists(tmp_path / "\0")


def test_a_relative_cache_folder_is_no_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")  # the XDG specification: ignore it
    assert cache_folder().parts[-2:] == (".cache", "crore")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert str(cache_folder()) == "/elsewhere/crore"
