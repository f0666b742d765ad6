"""The diagrams of docs/state_machine.md are the tables in the code."""

import re
from collections.abc import Iterable, Mapping

import pytest

from services.front.domain.job import TRANSITIONS as JOB_TRANSITIONS
from services.job.domain.rules import TRANSITIONS as RUN_TRANSITIONS
from tests.support.pages import code_blocks, page, rows, section

PAGE = page("docs/state_machine.md")
OUTSIDE = "[*]"
MACHINES = [("## A job, in front", JOB_TRANSITIONS), ("## A run, in job", RUN_TRANSITIONS)]
EDGE = re.compile(r"^\s*(\S+) --> (\S+?)(?::.*)?$", re.MULTILINE)


@pytest.mark.parametrize(("heading", "transitions"), MACHINES)
def test_the_diagrams_edges_are_the_tables(heading: str, transitions: Mapping[str, Iterable[str]]) -> None:
    (diagram,) = code_blocks(section(PAGE, heading), "mermaid")
    drawn = EDGE.findall(diagram)
    assert len(drawn) == diagram.count("-->") == len(set(drawn))
    assert {edge for edge in drawn if OUTSIDE not in edge} == {
        (str(source), str(target)) for source, targets in transitions.items() for target in targets
    }


@pytest.mark.parametrize(("heading", "transitions"), MACHINES)
def test_just_the_final_states_lead_out(heading: str, transitions: Mapping[str, Iterable[str]]) -> None:
    (diagram,) = code_blocks(section(PAGE, heading), "mermaid")
    ends = {source for source, target in EDGE.findall(diagram) if target == OUTSIDE}
    assert ends == {str(state) for state, targets in transitions.items() if not targets}


@pytest.mark.parametrize(("heading", "transitions"), MACHINES)
def test_every_state_is_explained(heading: str, transitions: Mapping[str, Iterable[str]]) -> None:
    explained = [state for row in rows(section(PAGE, heading)) for state in re.split(r"`, `", row[0])]
    assert explained == [str(state) for state in transitions]
