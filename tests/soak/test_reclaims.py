"""The time until a run is claimed again, from what processors say."""

from pathlib import Path

from tests.soak import reclaims

# Seconds after the first line, which processor, and what it says: an action, of a run's attempt.
SAID = (
    (0.0, "processor-1", "run.claimed", "a", 1),
    (0.5, "processor-1", "run.claimed", "b", 1),
    (1.0, "processor-1", "run.completed", "b", 1),
    (2.0, "processor-2", "run.claimed", "c", 1),
    (4.5, "processor-2", "run.claimed", "a", 2),
    (5.0, "processor-2", "run.failed", "c", 1),
    (6.0, "processor-1", "run.claimed", "c", 2),
)


def test_a_run_waits_from_its_processors_death_until_its_next_claim(tmp_path: Path) -> None:
    for after, processor, action, run, fence in SAID:
        with (tmp_path / f"{processor}.log").open("a") as log:
            line = f'"action": "{action}", "run": "{run}", "fence": {fence}'
            log.write(f'{{"timestamp": "2026-01-01T00:00:{after:06.3f}+00:00", {line}}}\nnot of a run\n{{"timest\n')
    said = reclaims.read(tmp_path)
    began = said[0].at
    assert len(said) == len(SAID)
    assert reclaims.seconds(said, [("processor-1", began + 1.5)]) == [3.0]
    assert reclaims.seconds(said, [("processor-1", began - 1)]) == []
    # Stopped for a while, it goes on, and c is tried again for another reason.
    assert reclaims.seconds(said, [("processor-2", began + 3)]) == []
