"""The routes of logins and clients, one row each; ``table`` has the others."""

from typing import Final

from api.http.identity_bodies import (
    AddedClient,
    Jwks,
    ListedClients,
    LoginBody,
    LoginForm,
    NewClientBody,
    OAuthError,
    OAuthMetadata,
    PlayerBody,
    RefreshBody,
    RotateBody,
    RotatedClient,
    TokenResult,
)
from api.http.problems import BODY
from api.http.routing import AnyRoute, Body, Route
from api.identity.identity import ADMIN, GAME_SERVER
from api.identity.tokens import ACCESS_S
from api.routes.auth import get_jwks, get_oauth_metadata, post_logout, post_player, post_refresh, post_token
from api.routes.clients import delete_client, get_clients, post_client, post_rotate
from api.routes.parameters import OfClient, RotateQuery

_CLIENTS: Final = ("not_found", "log_unavailable")
_LOGIN_BODY: Final = (*BODY, *_CLIENTS)

IDENTITY_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/auth/token",
        handler=post_token,
        body=Body(LoginBody, "A client's id and secret", examples=("login",), form=LoginForm),
        returns=(
            Body(TokenResult, "The first tokens of a login", examples=("tokens",)),
            Body(OAuthError, "A form is malformed, or its grant is not valid", 400, examples=("invalid_grant",)),
            Body(OAuthError, "A form names no client, or a wrong secret", 401, examples=("invalid_client",)),
        ),
        problems=(*_LOGIN_BODY, "unauthenticated"),
        tag="login",
        operation="postToken",
        summary="Log in as a client",
        description=(
            "Takes JSON, or the form of OAuth 2.0 (RFC 6749) with `grant_type=client_credentials` or `refresh_token` "
            "and the client by HTTP Basic or in the form; a form gets its errors in that RFC's shape. An access "
            f"token is valid for {ACCESS_S // 60} minutes."
        ),
    ),
    Route(
        method="POST",
        path="/v1/auth/refresh",
        handler=post_refresh,
        body=Body(RefreshBody, "The refresh token", examples=("refresh",)),
        returns=(Body(TokenResult, "The next tokens of the login", examples=("tokens",)),),
        problems=(*_LOGIN_BODY, "unauthenticated"),
        tag="login",
        operation="postRefresh",
        summary="Exchange a refresh token for new tokens",
        description=(
            "The refresh token is spent. If a spent one comes again, all tokens of its login are revoked, because "
            "two programs have it."
        ),
    ),
    Route(
        method="POST",
        path="/v1/auth/logout",
        handler=post_logout,
        body=Body(RefreshBody, "A refresh token of the login", examples=("refresh",)),
        returns=(Body(None, "All tokens of the login are revoked", 204, None),),
        problems=_LOGIN_BODY,
        tag="login",
        operation="postLogout",
        summary="Log out: revoke all tokens of a login",
        description="An unknown refresh token gets the same response.",
    ),
    Route(
        method="POST",
        path="/v1/auth/players",
        handler=post_player,
        takes=PlayerBody,
        roles=(GAME_SERVER,),
        body=Body(PlayerBody, "The player", examples=("player",)),
        returns=(Body(TokenResult, "The first tokens of the player", examples=("tokens",)),),
        problems=_LOGIN_BODY,
        tag="login",
        operation="postPlayer",
        summary="Get tokens for a player, who may read what is theirs",
        description="The wallet need not be open yet.",
    ),
    Route(
        method="GET",
        path="/.well-known/jwks.json",
        handler=get_jwks,
        returns=(Body(Jwks, "The keys", examples=("jwks",)),),
        problems=("not_found",),
        tag="login",
        operation="getKeys",
        summary="Read the public keys of tokens and receipts",
        description="A JWK Set (RFC 7517).",
    ),
    Route(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        handler=get_oauth_metadata,
        returns=(Body(OAuthMetadata, "The metadata", examples=("oauth",)),),
        problems=("not_found",),
        tag="login",
        operation="getOAuthMetadata",
        summary="Read what an OAuth client must know",
        description="RFC 8414.",
    ),
    Route(
        method="GET",
        path="/v1/clients",
        handler=get_clients,
        roles=(ADMIN,),
        returns=(Body(ListedClients, "All clients, by id", examples=("clients",)),),
        problems=_CLIENTS,
        tag="clients",
        operation="getClients",
        summary="Read all clients",
        description="Disabled ones too. Secrets cannot be read.",
    ),
    Route(
        method="POST",
        path="/v1/clients",
        handler=post_client,
        takes=NewClientBody,
        roles=(ADMIN,),
        body=Body(NewClientBody, "The client", examples=("client.new",)),
        returns=(
            Body(AddedClient, "Added; this is the only time that its secret is shown", 201, examples=("client",)),
        ),
        problems=(*_LOGIN_BODY, "client_exists"),
        tag="clients",
        operation="postClient",
        summary="Add a client",
        description="`games` and `types` narrow what it may post.",
    ),
    Route(
        method="POST",
        path="/v1/clients/{client_id}/rotate",
        handler=post_rotate,
        parameters=OfClient,
        query=RotateQuery,
        takes=RotateBody,
        roles=(ADMIN,),
        body=Body(RotateBody, "How long the present secret stays valid", examples=("rotate",)),
        returns=(Body(RotatedClient, "The new secret, which is shown once", examples=("client.rotated",)),),
        problems=_LOGIN_BODY,
        tag="clients",
        operation="postRotation",
        summary="Give a client a new secret",
        description=(
            "The present secret stays valid for `grace_s`; then refresh tokens that were got by it end too. Without "
            "a body `grace_s` is 0: all tokens of the client and of its players are revoked within 5 s."
        ),
    ),
    Route(
        method="DELETE",
        path="/v1/clients/{client_id}",
        handler=delete_client,
        parameters=OfClient,
        roles=(ADMIN,),
        returns=(Body(None, "Disabled", 204, None),),
        problems=(*_CLIENTS, "last_admin"),
        tag="clients",
        operation="deleteClient",
        summary="Disable a client and revoke its tokens",
        description=(
            "Every node refuses its tokens, and those of players that it asked for, within 5 s. Its id is not given "
            "again. The last enabled admin cannot be disabled."
        ),
    ),
)
