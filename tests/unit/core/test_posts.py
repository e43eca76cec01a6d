"""chansock._core.posts: numbered POSTs are handled in the order in which they were made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock._core.posts import Post, PostOrder, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1795503553565-1", ("1795503553565", 1)),
        ("x-12", ("x", 12)),
        (None, None),
        ("", None),
        ("1", None),
        ("1-", None),
        ("1-0", None),
        ("1-01", None),
        ("1-2-3", None),
        ("1--2", None),
        ("1-" + "9" * 17, None),
        ("1-٣", None),
    ],
)
def test_number_is_udt_dash_number(text, number):
    assert parse_number(text) == number


def place(order: PostOrder, number: int) -> list[int]:
    """What is handled, in order, when this number comes."""
    if order.is_repeated(number):
        return []
    if order.must_wait(number):
        order.waiting[number] = Post(None, number)
        return []
    order.pass_by(number)
    handled = [number]
    while (following := order.pop_next()) is not None:
        order.pass_by(following.number)
        handled.append(following.number)
    return handled


@given(st.permutations(range(1, 9)))
def test_any_order_of_arrival_is_handled_in_order(numbers):
    order: PostOrder = PostOrder("1")
    handled = [n for number in numbers for n in place(order, number)]
    assert handled == list(range(1, 9))
    assert order.waiting == {}


def test_after_the_wait_counting_goes_on_from_the_smallest_that_is_here():
    order: PostOrder = PostOrder("1")
    assert place(order, 3) == []
    assert place(order, 5) == []
    order.skip()
    assert order.pop_next().number == 3
    order.pass_by(3)
    assert order.pop_next() is None
    assert place(order, 4) == [4, 5]


def test_a_number_that_was_handled_is_not_handled_again():
    order: PostOrder = PostOrder("1")
    assert place(order, 1) == [1]
    assert place(order, 1) == []
    assert place(order, 2) == [2]
    assert place(order, 1) == []


def test_a_number_that_was_not_waited_for_is_handled_once_when_it_comes():
    order: PostOrder = PostOrder("1")
    assert place(order, 3) == []
    order.skip()
    assert order.pop_next().number == 3
    order.pass_by(3)
    assert place(order, 1) == [1]
    assert place(order, 1) == []
    assert place(order, 2) == [2]


def test_a_refused_number_is_expected_again():
    order: PostOrder = PostOrder("1")
    place(order, 1)
    order.go_back(1)
    assert place(order, 2) == []
    assert place(order, 1) == [1, 2]
