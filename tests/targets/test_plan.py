"""What fits a budget: the largest head with its tail, never more bytes than there are."""

from __future__ import annotations

import pytest

from understudy.errors import UsageError
from understudy.targets.packing import bytes_per_position
from understudy.targets.plan import MOST, plan


@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("vocabulary", [300, 50_257, 128_000, 151_936])
def test_the_recommended_choice_is_the_largest_that_fits(vocabulary: int, eight_bits: bool) -> None:
    for room in range(30, 400, 7):
        best, *others = plan(room * 1000 + 999, 1000, vocabulary, eight_bits=eight_bits)
        assert best.n == 2 * best.k
        assert best.bytes_per_token <= room
        assert best.total == 1000 * best.bytes_per_token
        larger = bytes_per_position(vocabulary, k=best.k + 1, n=2 * (best.k + 1), eight_bits=eight_bits)
        assert larger > room or best.k == MOST
        for one in (best, *others):
            eight = one.log_p_bits == 8
            assert one.bytes_per_token == bytes_per_position(vocabulary, k=one.k, n=one.n, eight_bits=eight) <= room
            assert one.k >= 1 <= one.n
        assert len({(one.k, one.n, one.log_p_bits) for one in (best, *others)}) == 1 + len(others)


def test_little_room_has_a_short_tail_and_too_little_says_the_least() -> None:
    least, *_ = plan(13, 1, 128_000)
    assert (least.k, least.n) == (1, 1)
    assert plan(10**12, 1, 3)[0].k == 2  # less than the vocabulary
    with pytest.raises(UsageError, match=r"take 13, which is 13 GB for 1,000,000,000 tokens"):
        plan(12_900_000_000, 10**9, 128_000)
    for wrong in ({"budget": 0}, {"tokens": 0}, {"vocabulary": 2}, {"ratio": 0}):
        with pytest.raises(UsageError, match="of at least"):
            plan(**{"budget": 10**6, "tokens": 10, "vocabulary": 300, **wrong})
