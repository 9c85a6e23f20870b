"""Where the cache is: nowhere, or a Redis that is named by its URL; what is refused never tells a password."""

import pytest

from api.composition.settings import SettingsError, read_settings


def test_the_default_is_no_redis() -> None:
    assert read_settings({}).cache == read_settings({"STAKELOG_CACHE": "memory"}).cache == "memory"


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://cache:6380/",
        "redis://cache:6380/15",
        "redis://:secret@cache/0",
        "rediss://me:secret@[::1]:6379/2",
    ],
)
def test_a_redis_is_named_by_its_url(url: str) -> None:
    assert read_settings({"STAKELOG_CACHE": url}).cache == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no known cache"),
        ("none", "no known cache"),
        ("memcached://u:secret@cache", "no known cache"),
        ("redis:secret", "lacks the host"),
        ("redis://:secret@/0", "lacks the host"),
        ("redis://u:secret@cache:x/0", "not a URL"),
        ("redis://u:secret@cache/name", "by a number"),
        ("redis://u:secret@cache/0/1", "by a number"),
        ("redis://u:secret@cache/9999", "by a number"),
        ("redis://u:secret@cache/0?socket_timeout=9", "nothing after"),
    ],
)
def test_an_unusable_url_is_refused_without_showing_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        read_settings({"STAKELOG_CACHE": url})
    assert str(refused.value).startswith("STAKELOG_CACHE")
    assert "secret" not in str(refused.value)
    assert "redis://user:password@host:port/number" in str(refused.value)
