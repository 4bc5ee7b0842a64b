"""Preparing: once, whole or not at all, by one process of many, and never again needlessly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.train.data import texts
from tests.train.data.texts import folder_of, prepared

from crore.errors import InputError
from crore.train.data import Dataset, shards

pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "texts")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def start(folder, cache, *death):
    command = [sys.executable, texts.__file__, str(folder), str(cache), *death]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def names(cache):
    """Return what lies in the folder of shards, drafts included."""
    return [path.name for path in (cache / "shards").iterdir()]


def stages(folder, cache, **changes):
    """Prepare and return the dataset and the names of what was done."""
    seen = []
    found = prepared(str(folder), cache, progress=lambda what, _: seen.append(what), **changes)
    return found, set(seen)


def test_what_is_in_the_cache_is_not_read_again(folder, cache):
    first, done = stages(folder, cache)
    assert done == {"read", "tokenizer", "encode"}
    second, done = stages(folder, cache, seq_len=32, seed=8)
    assert done == set()
    assert second.key == first.key


def test_other_weights_use_the_same_tokens(folder, cache, tmp_path):
    folder_of(tmp_path / "more", 20, first=100)
    one = prepared(f"0.5:{folder},0.5:{tmp_path}/more", cache)
    two = prepared(f"0.9:{folder},0.1:{tmp_path}/more", cache)
    assert one.key == two.key
    assert two.weights == pytest.approx((0.9, 0.1))


def test_touched_files_are_read_but_neither_learned_nor_encoded_again(folder, cache):
    first, _ = stages(folder, cache)
    os.utime(folder / "000.txt", (1, 1))
    second, done = stages(folder, cache)
    assert done == {"read"}
    assert second.key == first.key


def test_changed_text_is_prepared_anew(folder, cache):
    first, _ = stages(folder, cache)
    (folder / "000.txt").write_text("something else", encoding="utf-8")
    second, done = stages(folder, cache)
    assert done == {"read", "tokenizer", "encode"}
    assert second.key != first.key


def test_a_trained_tokenizer_is_kept_when_the_shards_are_gone(folder, cache):
    first, _ = stages(folder, cache)
    first_rows = first.samples(np.arange(20))
    for path in (cache / "shards" / first.key).iterdir():
        path.unlink()
    (cache / "shards" / first.key).rmdir()
    second, done = stages(folder, cache)
    assert done == {"read", "encode"}
    assert np.array_equal(second.samples(np.arange(20)), first_rows)


def test_a_given_tokenizer_is_used_and_must_fit_the_model(folder, cache, tmp_path):
    first, _ = stages(folder, cache)
    size = first.card["tokenizer"]["size"]
    given = tmp_path / "mine.json"
    given.write_bytes(first.tokenizer_file.read_bytes())
    second, done = stages(folder, tmp_path / "other", tokenizer=given)
    assert done == {"read", "encode"}
    assert second.key == first.key
    for place in (tmp_path / "other", tmp_path / "third"):  # prepared before, and not
        with pytest.raises(
            InputError, match=rf"mine.json has {size} ids .* vocabulary is {size - 1}"
        ):
            stages(folder, place, tokenizer=given, vocab=size - 1)
    with pytest.raises(InputError, match=r"no file .*mime.json; did you mean mine.json"):
        stages(folder, cache, tokenizer=tmp_path / "mime.json")


@pytest.mark.parametrize(("stage", "share"), [("read", "1"), ("tokenizer", "1"), ("encode", "0.2")])
def test_a_killed_preparation_leaves_nothing_that_looks_whole(folder, cache, stage, share):
    killed = start(folder, cache, stage, share)
    killed.communicate()
    assert killed.returncode < 0
    assert not list((cache / "shards").glob("[!.]*"))
    found, done = stages(folder, cache)
    assert "encode" in done
    assert names(cache) == [found.key]


@pytest.mark.parametrize("stage", ["read", "tokenizer", "encode"])
def test_an_interrupted_preparation_removes_its_draft(folder, cache, stage):
    def interrupt(what, share):
        if what == stage and share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(str(folder), cache, progress=interrupt)
    assert names(cache) == []


def test_of_many_processes_one_prepares(folder, cache):
    running = [start(folder, cache) for _ in range(3)]
    answers = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len({answer[0] for answer in answers}) == 1
    assert sum("tokenizer" in answer for answer in answers) == 1
    assert sum("encode" in answer for answer in answers) == 1
    assert len(names(cache)) == 1


def test_without_locks_the_first_to_finish_is_kept(folder, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    other: list[Dataset] = []

    def overtake(what, _share):
        if what == "encode" and not other:
            other.append(prepared(str(folder), cache))

    second = prepared(str(folder), cache, progress=overtake)
    assert second.key == other[0].key
    assert names(cache) == [second.key]
    assert np.array_equal(second.samples(np.arange(9)), other[0].samples(np.arange(9)))


@pytest.mark.parametrize("name", ["0-train.tokens", "0-validation.bytes", "tokenizer.json"])
def test_a_file_cut_short_is_noticed_when_opened(folder, cache, name):
    first, _ = stages(folder, cache)
    path = cache / "shards" / first.key / name
    size = path.stat().st_size
    os.truncate(path, size - 2)
    said = rf"{re.escape(name)} has {size - 2:,} bytes but its card says {size:,}.*damaged; remove"
    with pytest.raises(InputError, match=said):
        stages(folder, cache)
    path.unlink()
    with pytest.raises(InputError, match="has 0 bytes"):
        stages(folder, cache)


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, cache):
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from crore.errors import InputError\n"
        "from tests.train.data.texts import prepared\n"
        "def limit(what, share):\n"
        "    if what == 'tokenizer' and share == 1:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: prepared(sys.argv[1], Path(sys.argv[2]), progress=limit)\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(folder), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert re.match(r"cannot write tokens to .*: File too large; nothing is kept\n$", done.stdout)
    assert names(cache) == []


def test_a_cache_that_is_no_folder_is_refused(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file"):
        prepared(str(folder), tmp_path / "file")


def test_a_file_that_goes_while_it_is_read_is_noticed(folder, cache):
    def remove(what, share):
        if what == "encode" and share:
            (folder / "000.txt").unlink(missing_ok=True)

    with pytest.raises(InputError, match=r"000.txt is gone: start again"):
        prepared(str(folder), cache, progress=remove)


def test_files_that_change_while_they_are_read_are_noticed(folder, cache):
    def change(what, _share):
        if what == "encode":
            os.utime(folder / "000.txt", (1, 1))

    with pytest.raises(InputError, match="changed while they were read"):
        prepared(str(folder), cache, progress=change)


def test_progress_never_goes_back(folder, cache, monkeypatch):
    monkeypatch.setattr(shards, "_BATCH_CHARS", 5000)
    shares: dict[str, list[float]] = {}
    prepared(str(folder), cache, progress=lambda what, s: shares.setdefault(what, []).append(s))
    assert list(shares) == ["read", "tokenizer", "encode"]
    for told in shares.values():
        assert len(told) > 3
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1.0)
