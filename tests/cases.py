"""Which cases of a test run before each commit."""

from collections.abc import Iterable
from typing import Any

import pytest


def first(few: int, cases: Iterable[Any]) -> list[Any]:
    """All cases for ``parametrize``: the first ``few`` run before each commit, the others in `make test` only."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=() if number < few else pytest.mark.system
        )
        for number, case in enumerate(cases)
    ]
