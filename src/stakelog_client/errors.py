"""What a call can raise.

StakelogError
├── Refused                the request was refused; one subclass for each code (`refusals`). Nothing was written
├── OutcomeUnknown         the command may or may not be in the ledger. Post it again under the same command_id
├── Unavailable            nothing was written, or nothing could be read, within the deadline. Try again later
│   └── NotYetVisible      within the deadline, no read showed what this client has written
├── UnexpectedResponse     the response is not one of a stakelog service
├── ChainBroken            the event stream does not continue: a record is missing or was changed
└── ReceiptInvalid         the receipt proves nothing: it is not signed by a known key, or was changed
"""

from __future__ import annotations

from typing import Any


class StakelogError(Exception):
    """Base of all errors of this library."""


class Refused(StakelogError):
    """The request was refused. `code` never changes, `detail` is for people, `fields` has details by code, such as
    `available`."""

    def __init__(self, code: str, status: int, detail: str, fields: dict[str, Any]) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.status, self.detail, self.fields = code, status, detail, fields


class OutcomeUnknown(StakelogError):
    """The deadline is over, and it is not known whether the command was accepted.

    Post the same command again under the same `command_id`, or look it up with `outcome`.
    """

    def __init__(self, user_id: str, command_id: str, why: str) -> None:
        super().__init__(f"{command_id} of {user_id} may or may not have been accepted: {why}")
        self.user_id, self.command_id = user_id, command_id


class Unavailable(StakelogError):
    """The service did not carry out the request within the deadline. Nothing was written."""


class NotYetVisible(Unavailable):
    """Within the deadline, the read model did not contain what this client has written."""


class UnexpectedResponse(StakelogError):
    """The response is not one of a stakelog service: check the address, and the proxies in front of the service."""


class ChainBroken(StakelogError):
    """A record does not continue its partition: one is missing, or was changed."""


class ReceiptInvalid(StakelogError):
    """The receipt does not prove that the holder of a known key had its record."""
