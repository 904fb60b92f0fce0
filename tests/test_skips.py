"""How skipped tests are reported."""

import pytest

pytestmark = pytest.mark.slow

THREE_SKIPS = """
import pytest

@pytest.fixture(scope="session")
def postgresql():
    pytest.skip("PostgreSQL is not reachable")

@pytest.mark.parametrize("number", [1, 2])
def test_with_postgresql(postgresql, number): ...

def test_with_a_browser():
    pytest.skip("there is no browser")
"""


def test_skips_are_summed_up_by_reason(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile(THREE_SKIPS)
    run = pytester.runpytest_inprocess("-p", "skips")
    run.stdout.fnmatch_lines(
        ["2 skipped: PostgreSQL is not reachable", "1 skipped: there is no browser"]
    )
    assert "SKIPPED" not in run.stdout.str()
    assert run.ret == pytest.ExitCode.OK


def test_a_skip_is_a_failure_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile(THREE_SKIPS)
    run = pytester.runpytest_inprocess("-p", "skips")
    run.assert_outcomes(errors=2, failed=1)
    assert "No test may be skipped with CI set: PostgreSQL is not reachable" in run.stdout.str()
