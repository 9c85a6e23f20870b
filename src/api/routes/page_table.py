"""The routes of the operator's page, one row each. They are no part of the document: only the page uses them."""

from typing import Final

from api.http.identity_bodies import LoginBody
from api.http.routing import AnyRoute, Body, Route
from api.routes.now import NowQuery, get_now, get_verification, post_verification
from api.routes.page import (
    SESSION,
    USERS_OF_THE_PAGE,
    OfAsset,
    get_asset,
    get_page,
    post_session,
    post_session_logout,
    post_session_refresh,
)
from api.routes.parameters import PageQuery, ReadQuery
from api.routes.work import get_gifts, get_quarantined

VERIFICATION: Final = "/admin/verification"

PAGE_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(method="GET", path="/admin", handler=get_page),
    Route(method="GET", path="/admin/assets/{name}", handler=get_asset, parameters=OfAsset),
    Route(
        method="POST",
        path=SESSION,
        handler=post_session,
        body=Body(LoginBody, "A client's id and secret", examples=("login",)),
    ),
    Route(method="POST", path=f"{SESSION}/refresh", handler=post_session_refresh),
    Route(method="POST", path=f"{SESSION}/logout", handler=post_session_logout),
    Route(method="GET", path="/admin/now", handler=get_now, query=NowQuery, roles=USERS_OF_THE_PAGE),
    Route(method="GET", path="/admin/gifts", handler=get_gifts, query=PageQuery, roles=USERS_OF_THE_PAGE),
    Route(
        method="GET",
        path="/admin/quarantined",
        handler=get_quarantined,
        query=ReadQuery,
        roles=USERS_OF_THE_PAGE,
    ),
    Route(method="GET", path=VERIFICATION, handler=get_verification, roles=USERS_OF_THE_PAGE),
    Route(method="POST", path=VERIFICATION, handler=post_verification, roles=USERS_OF_THE_PAGE),
)
