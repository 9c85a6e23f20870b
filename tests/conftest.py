"""What every layer of tests shares: how far the property tests go."""

import pytest
from hypothesis import settings

# `--hypothesis-profile=deep`: what `make test` runs. The default profile is for every commit.
settings.register_profile("deep", max_examples=200)

pytest_plugins = ["real_servers"]

pytest.register_assert_rewrite("properties.naive_reads", "properties.stories", "properties.witness", "system.players")
