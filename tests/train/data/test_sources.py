"""Sources on one line: weights, names, and what is said of those that cannot be read."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train.data.texts import folder_of

from crore.errors import InputError
from crore.train.data.sources import Source, open_corpus, parse_sources, weights_of


def texts(path):
    return [document.text for document in open_corpus(Source(path=str(path))).documents()]


def test_weights_and_licences_are_read_from_one_line():
    assert parse_sources("0.6:health/@CC-BY-4.0, 0.3:finance.jsonl,energy.parquet") == (
        Source(path="health/", weight=0.6, licence="CC-BY-4.0"),
        Source(path="finance.jsonl", weight=0.3),
        Source(path="energy.parquet"),
    )


def test_a_path_may_hold_a_colon_or_an_at_sign(tmp_path):
    (tmp_path / "a@b.txt").write_text("x", encoding="utf-8")
    assert parse_sources("C:/texts") == (Source(path="C:/texts"),)
    assert parse_sources(f"{tmp_path}/a@b.txt")[0].path == f"{tmp_path}/a@b.txt"


def test_python_is_the_two_parts_of_the_default_corpus():
    docs, code = parse_sources("python")
    assert (docs.path, code.path) == ("python-docs", "python-code")
    assert sum(s.weight or 0 for s in (docs, code)) == pytest.approx(1)
    docs, code, _ = parse_sources("0.5:python,x")
    assert sum(s.weight or 0 for s in (docs, code)) == pytest.approx(0.5)
    assert [source.weight for source in parse_sources("python,x")] == [None] * 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "empty source"),
        ("a,,b", "empty source"),
        ("0:a", "must be a number from"),
        ("-1:a", "must be a number from"),
        ("nan:a", "must be a number from"),
        ("1e308:a", "must be a number from"),
        ("a\udce9", "characters that no name"),
        ("a\0b", "characters that no name"),
        ("a,0.5:a", "stands twice"),
    ],
)
def test_a_line_that_means_nothing_is_refused(line, said):
    with pytest.raises(InputError, match=said):
        parse_sources(line)


@given(
    st.lists(
        st.tuples(st.none() | st.floats(0.01, 0.2), st.integers(1, 10**9)), min_size=1, max_size=4
    )
)
def test_weights_sum_to_one_and_keep_the_ratio_of_those_given(rows):
    sources = [Source(path=str(n), weight=weight) for n, (weight, _) in enumerate(rows)]
    found = weights_of(sources, [size for _, size in rows])
    assert sum(found) == pytest.approx(1)
    given_ = [(f, s.weight) for f, s in zip(found, sources, strict=True) if s.weight]
    assert all(f / given_[0][0] == pytest.approx(w / given_[0][1]) for f, w in given_)


def test_sources_without_a_weight_share_by_size_what_is_left():
    sources = [Source(path="a", weight=0.4), Source(path="b"), Source(path="c")]
    assert weights_of(sources, [5, 100, 200]) == pytest.approx((0.4, 0.2, 0.4))
    with pytest.raises(InputError, match=r"sum to 1.5 and leave nothing for 'b'"):
        weights_of([Source(path="a", weight=1.5), Source(path="b")], [1, 1])


def test_a_folder_is_read_in_the_order_of_its_names_hidden_and_unknown_files_left_out(tmp_path):
    (tmp_path / "b" / ".git").mkdir(parents=True)
    for name in ("b/two.md", "a.txt", ".hidden.txt", "b/.git/x.txt", "c.bin", "z.jsonl"):
        text = '{"text": "z.jsonl"}' if name.endswith("jsonl") else name
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "gone.txt")
    assert texts(tmp_path) == ["a.txt", "b/two.md", "z.jsonl"]


def test_the_hash_of_a_file_is_what_sha256sum_prints_and_of_a_folder_that_of_its_list(tmp_path):
    folder = folder_of(tmp_path / "texts", 2)
    one = open_corpus(Source(path=str(folder / "000.txt"))).sha256()
    assert one == hashlib.sha256((folder / "000.txt").read_bytes()).hexdigest()
    lines = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in sorted(folder.iterdir())
    )
    both = open_corpus(Source(path=str(folder))).sha256()
    assert both == hashlib.sha256(lines.encode()).hexdigest()


def test_a_missing_source_names_what_is_like_it(tmp_path):
    folder_of(tmp_path / "health", 1)
    with pytest.raises(InputError, match=r"no file or folder .*heath; did you mean health\?"):
        open_corpus(Source(path=str(tmp_path / "heath")))
    with pytest.raises(InputError, match="did you mean python"):
        open_corpus(Source(path="pyhton"))


def test_a_folder_without_texts_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no file to read; read are \.txt"):
        open_corpus(Source(path=str(tmp_path)))
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="is empty"):
        open_corpus(Source(path=str(tmp_path / "a.txt")))
    with pytest.raises(InputError, match="cannot read"):
        open_corpus(Source(path="x" * 5000))
