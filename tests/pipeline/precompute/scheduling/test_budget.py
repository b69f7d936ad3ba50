"""How long lost work is made again: as long as anything gets done."""

from __future__ import annotations

from intertitle.pipeline.precompute.scheduling.budget import Budget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_any_number_of_losses_is_made_up_for_while_something_is_finished() -> None:
    clock = Clock()
    budget = Budget(10.0, clock)
    for _ in range(1000):
        clock.now += 60
        assert budget.lost()
        budget.finished()


def test_losses_alone_do_not_end_it_nor_does_time() -> None:
    clock = Clock()
    budget = Budget(10.0, clock)
    assert all(budget.lost() for _ in range(1000))
    clock.now += 10_000
    other = Budget(10.0, clock)
    clock.now += 10_000
    assert all(other.lost() for _ in range(10))
    assert not other.lost() and not budget.lost()


def test_the_time_grows_with_what_an_item_may_take() -> None:
    clock = Clock()
    budget = Budget(1000.0, clock)
    clock.now += 1999
    assert all(budget.lost() for _ in range(100))
    clock.now += 1
    assert not budget.lost()


def stall(budget: Budget, clock: Clock) -> None:
    clock.now += 10_000
    while budget.lost():
        pass


def test_work_is_given_up_only_where_other_work_was_done() -> None:
    clock = Clock()
    budget = Budget(10.0, clock)
    stall(budget, clock)
    assert not budget.may_give_up
    budget.finished()
    for _ in range(2):
        stall(budget, clock)
        assert budget.may_give_up
    stall(budget, clock)
    assert not budget.may_give_up
