"""A soak: what was acknowledged is done, once. In a minute of it each process is killed."""

import itertools
from pathlib import Path

import pytest

from tests.soak import plan, report
from tests.soak.checker import Verdict
from tests.soak.faults import Done
from tests.soak.seen import Observations, Refusal
from tests.soak.soak import Soak, soak
from tests.support.marks import long

# A seed and seconds; in the short one five processes are killed, MongoDB and front among them.
SHORT, MINUTE = (6, 12.0), (3, 60.0)


@pytest.mark.timeout(240)  # a minute is 80 s on an idle machine, and a soak waits a minute for what is lost
@pytest.mark.parametrize("of", [SHORT, *long(MINUTE)], ids=["short", "minute"])
async def test_faults_lose_nothing(tmp_path: Path, of: tuple[int, float]) -> None:
    seed, seconds = of
    done = await soak(tmp_path, seed, seconds, print)
    assert done.faults == []
    assert done.verdict.ends.total() == len(done.seen.jobs) > 0
    assert done.done.counts.total() == len(plan.faults(seed, seconds))
    killed = [process for process in plan.PROCESSES if done.done.counts[process, "kill"]]
    assert len(killed) == (len(plan.PROCESSES) if of == MINUTE else 5)
    assert done.seen.repeated > 0
    assert f"| jobs acknowledged | {len(done.seen.jobs):,}," in "\n".join(report.lines(done))


def test_a_refusal_is_expected_only_by_a_fault_and_for_a_while() -> None:
    seen = Observations(refusals=[Refusal(at, 503, f"at {at}", "1") for at in (9, 11, 26, 28)])
    seen.refusals.append(Refusal(11, 500, "not decent"))
    done = Soak(0, 0, Done(times=[(10, 12)]), seen, Verdict(lost=["lost"]), 0, [])
    assert done.unexpected == {"at 9": 1, "at 28": 1, "not decent": 1}
    assert done.faults[0] == "lost"
    assert len(done.faults) == 4


def test_a_seed_is_a_plan() -> None:
    assert plan.faults(7, 600) == plan.faults(7, 600) != plan.faults(8, 600)
    assert plan.faults(7, 60) == [fault for fault in plan.faults(7, 600) if fault.at < 60]


def test_ten_minutes_have_every_fault_for_every_victim() -> None:
    made = {(fault.victim, fault.kind) for seed in range(5) for fault in plan.faults(seed, 600)}
    assert made >= {(process, kind) for process in plan.PROCESSES for kind in plan.ON_PROCESSES}
    assert made >= {(link, kind) for link in plan.LINKS for kind in plan.ON_LINKS}


def test_a_plan_lets_the_runner_keep_each_process_running() -> None:
    for seed, process in itertools.product(range(20), plan.PROCESSES):
        kills = [fault.at for fault in plan.faults(seed, 600) if fault.victim == process and fault.kind == "kill"]
        assert all(after - before >= plan.QUIET_SECONDS for before, after in itertools.pairwise(kills))
