"""What is held out: about one percent, copies together, something always left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crore.train.data.corpus import Document
from crore.train.data.split import group_hash, held_out, survey


def documents(count, size=1000):
    return [Document(f"{number} " + "x" * size) for number in range(count)]


def share_held(found):
    counted = survey(found)
    held = held_out([counted])
    return sum(len(d.text) for d in found if group_hash(d) in held) / counted.total_bytes


def test_about_one_percent_is_held_out_of_much_text_and_up_to_five_of_little():
    assert 0.01 <= share_held(documents(10_000)) < 0.0105
    assert 0.05 <= share_held(documents(100)) <= 0.06
    assert 0.3 < share_held(documents(3)) < 0.4


def test_nothing_is_held_out_of_one_text_however_often_it_stands_there():
    assert held_out([survey(documents(1) * 5)]) == frozenset()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5000)), min_size=2, max_size=40))
def test_something_is_left_to_train_on_and_something_held_out(rows):
    found = [Document("x" * size, f"group {name}") for name, size in rows]
    held = held_out([survey(found)])
    groups = {group_hash(document) for document in found}
    assert held < groups
    assert bool(held) == (len(groups) > 1)


def test_a_group_stays_together_and_copies_fall_on_one_side_in_all_sources():
    assert group_hash(Document("a", "m")) == group_hash(Document("b", "m"))
    assert group_hash(Document(" a\n")) == group_hash(Document("a"))
    first, second = survey(documents(400)), survey(documents(500)[300:])
    held = held_out([first, second])
    assert held >= held_out([first]) | held_out([second])


def test_one_huge_document_is_passed_over():
    found = [*documents(200), Document("y" * 10**6)]
    assert group_hash(found[-1]) not in held_out([survey(found)])
