"""The routes of gifts and referral codes, rows of ``table``."""

from typing import Final

from api.http.bodies import AsOf
from api.http.routing import AnyRoute, Body, Route
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR
from api.routes.codes import get_gift, get_referral_code
from api.routes.parameters import OfCode, ReadQuery
from projections.models.gifts import Gift
from projections.models.referral_codes import OwnedCode

_READ: Final = ("log_unavailable", "not_yet_visible")
_TRUE_AT: Final = "It, and in `as_of` the position at which it is true"

CODE_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/gifts/{code}",
        handler=get_gift,
        parameters=OfCode,
        query=ReadQuery,
        roles=(GAME_SERVER, OPERATOR, AUDITOR, ADMIN),
        returns=(Body(Gift, _TRUE_AT, examples=("gift",), as_of=AsOf),),
        problems=_READ,
        missing=("not_found",),
        tag="promotions",
        operation="getGift",
        summary="Read a gift and how many of its shares are claimed",
        description="`expired` is by the clock of the service; the rest is at the position in `as_of`.",
    ),
    Route(
        method="GET",
        path="/v1/referral-codes/{code}",
        handler=get_referral_code,
        parameters=OfCode,
        query=ReadQuery,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(OwnedCode, _TRUE_AT, examples=("referral_code",), as_of=AsOf),),
        problems=_READ,
        missing=("not_found",),
        tag="promotions",
        operation="getReferralCode",
        summary="Read the owner of a referral code",
        description="A code without an owner is not found.",
    ),
)
