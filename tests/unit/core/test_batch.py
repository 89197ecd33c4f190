"""Sets of encoded events."""

from tests.unit.algorithms.in_context.small import support_of


def test_the_newest_events_of_a_long_set_are_whole_and_a_short_set_stays() -> None:
    support = support_of([1, 4, 6, 3, 8], width=7).newest(3)
    assert support.index.tolist() == [6, 3, 8]
    assert support.age.tolist() == [2, 1, 0]
    assert support.mask.all()
    short = support_of([1, 4], width=7).newest(3)
    assert short.mask.tolist() == [True, True, False]
