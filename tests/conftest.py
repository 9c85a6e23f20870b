"""Shared by all tests: the profiles of the property tests."""

import signal

import pytest
from hypothesis import settings

# `--hypothesis-profile=deep`: what `make test` runs. The default profile is for every commit.
settings.register_profile("deep", max_examples=200)

# A shell starts a background job with SIGINT ignored, and child processes inherit that; tests send SIGINT to them.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["real_servers"]

pytest.register_assert_rewrite("properties.naive_reads", "properties.stories", "properties.witness", "system.players")
