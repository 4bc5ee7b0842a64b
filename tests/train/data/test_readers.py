"""Texts out of files: nothing lost, and a bad file named with its line."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.train.data.readers import piece_chars, pieces, read_file

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
LIMIT = 10_000


def jsonl(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


@given(st.text(st.sampled_from("ab \nß"), max_size=400), st.integers(1, 60))
def test_pieces_lose_nothing_but_blank_texts_and_stay_near_the_limit(text, limit):
    found = list(pieces(text.splitlines(keepends=True), limit))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(part.strip() and len(part) <= 2 * limit for part in found)


def test_a_long_text_is_cut_at_blank_lines():
    text = "\n".join(f"paragraph {n}\nof two lines\n" for n in range(100))
    found = list(pieces(text.splitlines(keepends=True), 300))
    assert "".join(found) == text
    assert len(found) > 8
    assert all(part.lstrip("\n").startswith("paragraph") for part in found)


def test_a_hundredth_of_any_source_can_be_held_out():
    assert piece_chars(10) == 2_000
    assert piece_chars(4_400_000) == 44_000
    assert piece_chars(10**12) == 1_000_000


def test_plain_text_is_read_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffcafé\r\nbar".encode())
    assert list(read_file(path, LIMIT)) == ["café\nbar"]


def test_json_lines_are_read_by_text_messages_or_content(tmp_path):
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": None},
    ]
    path = jsonl(
        tmp_path / "a.jsonl", {"text": "one", "content": "not this"}, {"messages": chat},
        {"content": "three"}, {"text": "  "},
    )  # fmt: skip
    assert list(read_file(path, LIMIT)) == ["one", "user: Hi\n\nassistant: Hello\n", "three"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 of a.jsonl is not valid JSON"),
        ("[" * 100_000, "line 2 of a.jsonl is not valid JSON"),
        ("[1]", "line 2 of a.jsonl must hold a JSON object, not list"),
        ('{"txt": "x", "id": 3}', "line 2 of a.jsonl has no field text .*it has txt"),
        ('{"body": "x"}', "it has body"),
        ("{}", "no field text or messages or content$"),
        ('{"text": 3}', "line 2 of a.jsonl: text must be text, not 3"),
        ('{"content": [{"text": 3}]}', "content must be text"),
        ('{"messages": ["x"]}', "messages must be text"),
        ('{"messages": [{"role": "user", "content": 4}]}', "messages must be text"),
        ('{"text": "\\ud800"}', "line 2 of a.jsonl holds half a character"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        list(read_file(path, LIMIT))
    assert len(str(caught.value)) <= 240
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_what_is_not_utf8_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(InputError, match=f"{name} is not UTF-8"):
        list(read_file(tmp_path / name, LIMIT))


KINDS = [
    pyarrow.string(),
    pyarrow.large_string(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_text_column_of_parquet_is_read_and_empty_rows_left_out(tmp_path, kind):
    column = pyarrow.array(["one", None, "", "two\n\nü"], type=kind)
    table = pyarrow.table({"id": [1, 2, 3, 4], "text": column})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert list(read_file(tmp_path / "a.parquet", LIMIT)) == ["one", "two\n\nü"]


def test_parquet_without_a_text_column_names_those_it_has(tmp_path):
    parquet.write_table(pyarrow.table({"Text_": ["x"], "id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet has no column text; it has Text_"):
        list(read_file(tmp_path / "a.parquet", LIMIT))
    parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"column text of b.parquet must be text, not int64"):
        list(read_file(tmp_path / "b.parquet", LIMIT))


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path):
    broken = pyarrow.array([b"caf\xe9"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"cannot read a.parquet as Parquet: 'utf-8' codec"):
        list(read_file(tmp_path / "a.parquet", LIMIT))


@pytest.mark.parametrize("content", [b"PAR1 not really", b"x" * 100])
def test_a_damaged_parquet_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read a.parquet as Parquet"):
        list(read_file(tmp_path / "a.parquet", LIMIT))


def test_without_pyarrow_the_install_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install pyarrow$"):
        list(read_file(tmp_path / "a.parquet", LIMIT))
