"""Who keeps a response: remembered within bounds."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.homes import KEPT_FOR, LONGEST_ID, Home, Homes
from tests._properties import examples

A, B = Home("a"), Home("b", key=1)


def test_a_response_is_found_at_its_home() -> None:
    homes = Homes()
    homes.keep("r1", A, 0.0)
    homes.keep("r2", B, 1.0)
    assert (homes.find("r1", 2.0), homes.find("r2", 2.0), homes.find("r3", 2.0)) == (A, B, None)


def test_the_last_home_counts() -> None:
    homes = Homes()
    homes.keep("r", A, 0.0)
    homes.keep("r", B, 1.0)
    assert homes.find("r", 1.0) == B


def test_after_thirty_days_a_response_is_forgotten() -> None:
    homes = Homes()
    homes.keep("r", A, 5.0)
    assert homes.find("r", 5.0 + KEPT_FOR - 1.0) == A
    assert homes.find("r", 5.0 + KEPT_FOR) is None
    assert len(homes) == 0


def test_the_one_that_was_not_wanted_longest_makes_room() -> None:
    homes = Homes(most=2)
    homes.keep("old", A, 0.0)
    homes.keep("new", A, 0.0)
    homes.find("old", 0.0)
    homes.keep("newest", A, 0.0)
    assert (homes.find("old", 0.0), homes.find("new", 0.0)) == (A, None)


def test_no_id_and_one_out_of_all_proportion_are_not_kept() -> None:
    homes = Homes()
    for response in ("", "r" * (LONGEST_ID + 1)):
        homes.keep(response, A, 0.0)
    assert len(homes) == 0


def test_its_repr_tells_how_many_and_not_which() -> None:
    homes = Homes()
    homes.keep("resp_of_somebody", A, 0.0)
    assert repr(homes) == "<Homes of 1 responses>"


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("pqrst"), st.floats(0, 4)), max_size=40))
def test_it_never_holds_more_and_never_answers_later_than_it_may(steps: list[tuple[bool, str, float]]) -> None:
    homes, now = Homes(most=3, seconds=6.0), 0.0
    model: OrderedDict[str, float] = OrderedDict()
    for keeps, response, seconds in steps:
        now += seconds
        if keeps:
            homes.keep(response, A, now)
            model[response] = now
            model.move_to_end(response)
            while len(model) > 3:
                model.popitem(last=False)
        else:
            known = response in model and now - model[response] < 6.0
            assert (homes.find(response, now) is not None) is known
            model.move_to_end(response) if known else model.pop(response, None)
        assert len(homes) <= 3
