"""The pytest fixture `stakelog_ledger`: a ledger in memory for each test that asks for it.

To test with your own games and money flows, define a fixture `stakelog_rules` in your `conftest.py`. It returns the
content of your file of rules.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from stakelog_client.testing import Ledger


@pytest.fixture
def stakelog_rules() -> Mapping[str, Any]:
    """The rules of `stakelog_ledger`: the built-in ones."""
    return {}


@pytest.fixture
def stakelog_ledger(stakelog_rules: Mapping[str, Any]) -> Iterator[Ledger]:
    """An empty ledger in memory. Its time does not move until `advance`."""
    with Ledger(rules=stakelog_rules) as ledger:
        yield ledger
