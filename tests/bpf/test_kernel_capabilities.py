"""Each of the agent's capabilities left out in turn: what is lost is what the doctor says, and no more."""

from collections.abc import Iterator

import pytest

from farcall_operator.layout import PROBE_CAPABILITIES
from support_capabilities import EVERYTHING, see_without, targets

pytestmark = pytest.mark.bpf

TLS = {"tls", "deleted tls", "private tls"}
# What of processes of root, and of another user, is not read without it.
LOST = {
    "SYS_PTRACE": (
        {*TLS, "program file", "forks", "old connections"},
        {*TLS, "program file", "forks", "old connections"},
    ),
    "DAC_READ_SEARCH": (
        set(),
        {"deleted tls", "private tls", "environment", "forks", "old connections"},
    ),
    "CHECKPOINT_RESTORE": ({"deleted tls"}, {"deleted tls"}),
}
# Newer kernels let PERFMON read it too.
BY_KERNEL = {"SYS_PTRACE": {"environment"}}
WORDS = {
    "tls": "no TLS is read",
    "deleted tls": "TLS library that was deleted",
    "private tls": "or is private",
    "program file": "program file",
    "environment": "environment",
    "forks": "forked workers",
    "old connections": "connections older than the agent",
}


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[int, int]]:
    with targets() as processes:
        yield processes


def test_with_all_five_everything_is_read(processes: tuple[int, int]) -> None:
    sight = see_without(None, *processes)

    assert (sight.refused, sight.off, sight.costs) == ("", (), {})
    assert sight.of_root == sight.of_other == EVERYTHING


@pytest.mark.parametrize("missing", LOST)
def test_without_one_that_is_of_use_what_the_doctor_says_is_lost_and_no_more(
    processes: tuple[int, int], missing: str
) -> None:
    sight = see_without(missing, *processes)
    of_root, of_other = LOST[missing]
    by_kernel = BY_KERNEL.get(missing, set())

    assert (sight.refused, sight.off) == ("", ())
    assert EVERYTHING - sight.of_root - by_kernel == of_root
    assert EVERYTHING - sight.of_other - by_kernel == of_other
    (cost,) = [sight.costs.pop(missing)]
    assert sight.costs == {}
    told = {thing for thing, words in WORDS.items() if words in cost}
    if "tls" in told:
        told |= TLS
    assert told == of_root | of_other | by_kernel


@pytest.mark.parametrize("missing", sorted(set(PROBE_CAPABILITIES) - set(LOST)))
def test_without_one_that_is_essential_nothing_is_traced(
    processes: tuple[int, int], missing: str
) -> None:
    sight = see_without(missing, *processes)

    assert "BPF and PERFMON" in sight.refused
    assert list(sight.costs) == [missing]
    assert sight.costs[missing].startswith("nothing can be")
