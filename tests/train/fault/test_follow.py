"""The logs of a fleet's worlds read as one history, each step once, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train.feed import CHECKPOINT, END, EVAL, SAMPLE, START, nth_step

from crore.train.fault.follow import History, Log
from crore.train.history import gaps, rolled_back
from crore.train.lines import line_of
from crore.train.records import Event, Record, Step


def heard(history: History, *told: tuple[int, Record]) -> list[Record]:
    """Return what records of worlds' logs add to a history."""
    return [new for world, record in told for new in history.hear(world, record, 0.0)]


def stamped(records: list[Record]) -> list[Record]:
    """Return records written one second after another."""
    return [
        replace(record, time=f"2026-11-26T10:{n // 60:02d}:{n % 60:02d}.000+00:00")
        for n, record in enumerate(records)
    ]


def back_to(step: int) -> Event:
    return Event(step=step, what="roll back", message="loss spike", first_sample=8 * step,
                 samples=0)  # fmt: skip


def by(world: int, records: list[Record]) -> list[Record]:
    """Return records as one of two worlds logs them."""
    return [
        replace(it, worlds=(0, 1), own_samples=(world, world + 1)) if isinstance(it, Step) else it
        for it in records
    ]


def numbers(records) -> list[int]:
    return [it.step for it in records if isinstance(it, Step)]


@given(
    done=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    turns=st.lists(st.integers(0, 3), max_size=60),
)
def test_each_step_is_told_once_by_whichever_world_logs_it_first(done, turns):
    """Worlds get so far; their logs are read in turns, some lagging behind."""
    history, told = History(), []
    logs: list[list[Record]] = [[START, *map(nth_step, range(1, n + 1))] for n in done]
    for world in [
        *(t % len(done) for t in turns),
        *(w for w, n in enumerate(done) for _ in "x" * 99),
    ]:
        if logs[world]:
            told += heard(history, (world, logs[world].pop(0)))
    assert told[0] is START
    assert len([it for it in told if it.kind == "start"]) == 1
    assert numbers(told) == list(range(1, max(done) + 1))
    assert [history.worlds[world].step for world in range(len(done))] == done


def test_a_world_that_comes_back_tells_no_step_again():
    history = History()
    first = heard(
        history, (0, START), (1, START), *((w, nth_step(n)) for n in (1, 2) for w in (0, 1))
    )
    assert numbers(first) == [1, 2]
    later = heard(history, (1, replace(START, step=1)), (1, nth_step(2)), (1, nth_step(3)))
    assert numbers(later) == [3]
    assert [it.kind for it in later] == ["step"]
    assert history.worlds[1].step == 3


def test_evaluations_texts_and_checkpoints_are_told_once():
    history = History()
    texts = [(w, it) for it in (EVAL, SAMPLE, CHECKPOINT, replace(EVAL, step=5)) for w in (0, 1, 2)]
    assert heard(history, *texts) == [EVAL, SAMPLE, CHECKPOINT, replace(EVAL, step=5)]


def test_events_say_whose_they_are_and_ends_are_kept_for_later():
    history = History()
    note = Event(step=3, what="note", message="no quorum")
    assert heard(history, (2, note)) == [replace(note, message="world 2: no quorum")]
    assert heard(history, (2, Event(step=3, what="outer step", message="turn 1"))) == []
    assert heard(history, (2, replace(END, step=3))) == []
    assert history.worlds[2].end == replace(END, step=3)
    heard(history, (2, replace(START, step=3)))
    assert history.worlds[2].end is None


def test_a_roll_back_is_told_once_and_the_steps_after_it_again():
    history = History()
    told = stamped([START, *map(nth_step, range(1, 6)), back_to(2), *map(nth_step, range(3, 7))])
    assert heard(history, *((w, it) for it in told for w in (0, 1))) == told
    assert history.step == 6


def test_what_was_evaluated_and_saved_after_a_roll_back_is_told_again():
    history = History()
    early, late = ([replace(it, step=n) for it in (EVAL, CHECKPOINT, SAMPLE)] for n in (2, 4))
    told = stamped([START, *map(nth_step, range(1, 6)), *early, *late, back_to(2), *late])
    assert heard(history, *((0, it) for it in told)) == told
    assert heard(history, *((1, it) for it in told)) == []


def test_a_roll_back_to_the_last_step_itself_is_told_too():
    """A step that fails without having been logged sets its samples aside."""
    history = History()
    told = stamped([START, nth_step(1), nth_step(2), replace(back_to(2), samples=8),
                    replace(back_to(2), samples=16), nth_step(3)])  # fmt: skip
    assert heard(history, *((w, it) for it in told for w in (0, 1))) == told


def losses(records) -> list[tuple[int, float]]:
    """Return step and loss of the steps that no roll back took back."""
    kept = [it for _, it in rolled_back((0, it) for it in records)]
    return [(it.step, it.loss) for it in kept if isinstance(it, Step)]


@given(
    lives=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=4),
    turns=st.lists(st.booleans(), max_size=60), stops=st.integers(0, 40),
)  # fmt: skip
def test_a_history_with_roll_backs_is_that_of_the_run_whichever_log_is_read_first(
    lives, turns, stops
):
    """Two worlds tell the same run; the second is killed at some record and lags as it may."""
    told: list[Record] = [START]
    step = 0
    for number, (more, back) in enumerate(lives):
        for _ in range(more):
            step += 1
            told.append(replace(nth_step(step), loss=float(number)))
        if step - back > 0 and back:
            step -= back
            told.append(back_to(step))
    told = stamped(told)
    logs = [by(0, told), by(1, told)[: max(stops, 1)]]
    history, found = History(), []
    for second in [*turns, *[True, False] * len(told)]:
        if logs[second]:
            found += heard(history, (int(second), logs[second].pop(0)))
    true = [
        (it.step, it.loss) for _, it in rolled_back((0, it) for it in told) if isinstance(it, Step)
    ]
    kept = [it for _, it in rolled_back((0, it) for it in found)]
    assert [(it.step, it.loss) for it in kept if isinstance(it, Step)] == true
    assert gaps(kept) == []
    assert [it for it in found if isinstance(it, Event)] == [
        it for it in told if isinstance(it, Event)
    ]


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path):
    path = tmp_path / "run-0.jsonl"
    log = Log(path=path)
    assert list(log.news()) == []  # nobody has written it yet
    lines = [line_of(it) for it in (START, nth_step(1), nth_step(2))]
    path.write_text(lines[0] + lines[1][:40])
    assert [it.kind for it in log.news()] == ["start"]
    assert list(log.news()) == []
    with path.open("a") as file:
        file.write(lines[1][40:])
    assert list(log.news()) == [nth_step_as(1, lines[1])]
    with path.open("a") as file:
        file.write("half of something\n" + lines[2])
    assert numbers(log.news()) == [2]


def nth_step_as(step: int, line: str) -> Step:
    """Return a step with the time that its line has."""
    return replace(nth_step(step), time=line.rpartition('"time":"')[2].partition('"')[0])


@pytest.mark.parametrize("text", ["ü\u2028ü", "a\\nb", 'quote"', "\x85"])
def test_a_line_is_what_ends_in_a_newline_whatever_it_holds(tmp_path, text):
    path = tmp_path / "run-0.jsonl"
    record = replace(SAMPLE, text=text)
    path.write_text(line_of(record), encoding="utf-8")
    assert list(Log(path=path).news()) == [record]


@given(cuts=st.lists(st.integers(1, 400), max_size=12))
def test_however_a_log_grows_its_records_are_read_once(cuts):
    told: list[Record] = [START, *map(nth_step, range(1, 5))]
    content = "".join(map(line_of, told)).encode()
    with TemporaryDirectory() as folder:
        path, found, at = Path(folder) / "run-0.jsonl", [], 0
        log = Log(path=path)
        for cut in (*cuts, len(content)):
            with path.open("ab") as file:
                file.write(content[at : at + cut])
            at += cut
            found += list(log.news())
    assert [it.step for it in found] == [0, 1, 2, 3, 4]
