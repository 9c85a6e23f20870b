"""``Data``: the base of every event's data."""

from typing import ClassVar

from msgspec import Struct


class Data(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of every event's data. In the record, ``type`` is next to the data, not inside it."""

    type: ClassVar[str]
