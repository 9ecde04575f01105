"""Every bad configuration is refused with exactly its problems, each with file, line and path."""

from __future__ import annotations

import pytest

from infermux.config import load_text
from infermux.errors import ConfigError

from .bad import ALL, Bad


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_a_bad_configuration_is_refused_with_all_its_problems(case: Bad) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(case.text, source="infermux.yml", environ={})
    assert [str(problem) for problem in caught.value.problems] == [f"infermux.yml:{line}" for line in case.problems]


def test_the_names_of_the_cases_differ() -> None:
    assert len({case.name for case in ALL}) == len(ALL)
