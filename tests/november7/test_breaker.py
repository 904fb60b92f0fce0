"""When November 7 is held to be down."""

from helpers import counted

from movies.november7.breaker import FAILURES, Breaker


def failed(times: int) -> Breaker:
    """A breaker that has seen so many failures in a row."""
    breaker = Breaker()
    for _ in range(times):
        breaker.failed()
    return breaker


def test_the_breaker_begins_closed() -> None:
    """Until something has failed the provider is held to be up."""
    assert not Breaker().is_open


def test_a_few_failures_do_not_open_it() -> None:
    """One failure fewer than it takes leaves it closed."""
    assert not failed(FAILURES - 1).is_open


def test_failures_in_a_row_open_it() -> None:
    """As many failures as it takes, one after another, open it."""
    assert failed(FAILURES).is_open


def test_a_success_begins_the_count_anew() -> None:
    """Failures with a success between them aren't in a row."""
    breaker = failed(FAILURES - 1)
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


def test_a_success_closes_it() -> None:
    """However many failures there were, one true answer shows that the provider is back."""
    breaker = failed(FAILURES * 2)
    breaker.succeeded()
    assert not breaker.is_open


def test_its_state_is_a_metric() -> None:
    """The gauge follows it when it opens and when it closes."""
    breaker = failed(FAILURES)
    opened = counted("november7_breaker_open")
    breaker.succeeded()
    assert (opened, counted("november7_breaker_open")) == (1, 0)
