"""The JSON bodies of logins and clients."""

from typing import Annotated, Final, Literal, get_args

from msgspec import Meta, Struct

from api.identity.clients import GAMES_MAX, GRACE_S_MAX, ROLES_OF_CLIENTS
from api.identity.identity import PUBLIC_KEY_PATTERN, SECRET_MAX
from api.identity.roles import MAY_POST
from api.identity.tokens import ACCESS_S
from ledger.core.fields import NOT_RESERVED_SCHEMA, TIME_US_MAX, USER_ID_PATTERN, UserId

_NOW_US: Final = 1_795_438_800_000_000

ClientId = Annotated[
    str,
    Meta(
        pattern=USER_ID_PATTERN,
        extra={"must": "1–64 of A–Z a–z 0–9 _ - . : @, beginning with a letter or digit"},
        description="The client's id, spelled like a user_id; it is the `actor` of its events",
        examples=["game-server-1"],
        extra_json_schema=NOT_RESERVED_SCHEMA,
    ),
]
Secret = Annotated[
    str, Meta(description="The client's secret", examples=["9mWq1cFz7r4e0xVbT2uK8sYdHnLgPjAo5iRtZ6vCwQE"])
]
NewSecret = Annotated[
    str,
    Meta(
        description="The secret; it is shown once, and only its hash is kept",
        examples=["9mWq1cFz7r4e0xVbT2uK8sYdHnLgPjAo5iRtZ6vCwQE"],
    ),
]
RefreshToken = Annotated[
    str,
    Meta(
        max_length=SECRET_MAX,
        description="A refresh token; it is spent by its use, and a spent one revokes all tokens of its login",
        examples=["fM3k9QeR1sT5uV7wX9yZ1a.b2C4d6E8f0G2h4I6j8K0l2M4n6O8p0Q2r4S6t8U0v2W"],
    ),
]
_Game = Annotated[str, Meta(pattern=USER_ID_PATTERN)]
Games = Annotated[
    tuple[_Game, ...],
    Meta(
        min_length=1,
        max_length=GAMES_MAX,
        description="The only games whose bets and results it may post; null: all",
        examples=[["wingo_1m"]],
    ),
]
_Type = Annotated[str, Meta(pattern=rf"^({'|'.join(MAY_POST)})\Z", extra_json_schema={"enum": list(MAY_POST)})]
Types = Annotated[
    tuple[_Type, ...],
    Meta(
        min_length=1,
        max_length=len(MAY_POST),
        description="The only types of commands that it may post; null: all that its role may",
        examples=[["place_bet", "settle_bet"]],
    ),
]
PublicKey = Annotated[
    str,
    Meta(
        pattern=PUBLIC_KEY_PATTERN,
        description="The client's Ed25519 key, as `openssl pkey -pubout` writes it, without its first and last line: "
        "it must sign each request that is not `GET` or `HEAD`; null: it need not",
        examples=["MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="],
    ),
]
Role = Annotated[
    Literal["game_server", "operator", "auditor", "admin"],
    Meta(description="What it may do", examples=["game_server"]),
]
assert get_args(get_args(Role)[0]) == ROLES_OF_CLIENTS
_RoleOf = Annotated[
    str,
    Meta(description="What it may do", examples=["game_server"], extra_json_schema={"enum": list(ROLES_OF_CLIENTS)}),
]
_TimeUs = Annotated[int, Meta(ge=0, le=TIME_US_MAX, description="Unix microseconds, UTC", examples=[_NOW_US])]


class LoginBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A client's id and secret."""

    client_id: Annotated[str, Meta(description="The client's id", examples=["game-server-1"])]
    client_secret: Secret


class LoginForm(Struct, frozen=True):
    """A token request of OAuth 2.0 (RFC 6749). The client may log in by HTTP Basic instead."""

    grant_type: Annotated[
        str,
        Meta(
            description="`client_credentials`, or `refresh_token` with a `refresh_token`",
            examples=["client_credentials"],
            extra_json_schema={"enum": ["client_credentials", "refresh_token"]},
        ),
    ]
    client_id: Annotated[str, Meta(description="The client's id", examples=["game-server-1"])] | None = None
    client_secret: Secret | None = None
    refresh_token: RefreshToken | None = None


class RefreshBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token."""

    refresh_token: RefreshToken


class PlayerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The player who gets tokens."""

    user_id: UserId


class TokenResult(Struct, frozen=True):
    """An access token, and the refresh token for the next one."""

    access_token: Annotated[
        str, Meta(description="Send it as `Authorization: Bearer …`", examples=["eyJhbGciOiJFZERTQSIs…"])
    ]
    expires_in: Annotated[int, Meta(description="Seconds until it expires", examples=[ACCESS_S])]
    refresh_token: RefreshToken
    token_type: Annotated[str, Meta(description="Always Bearer", examples=["Bearer"])] = "Bearer"  # noqa: S105


class OAuthError(Struct, frozen=True):
    """Why a form-encoded token request failed (RFC 6749, section 5.2)."""

    error: Annotated[
        str,
        Meta(
            description="The code of RFC 6749",
            examples=["invalid_client"],
            extra_json_schema={
                "enum": ["invalid_request", "invalid_client", "invalid_grant", "unsupported_grant_type"]
            },
        ),
    ]
    error_description: Annotated[str, Meta(description="For people", examples=["the client is unknown"])]


class OAuthMetadata(Struct, frozen=True):
    """What an OAuth client must know of this service (RFC 8414)."""

    issuer: Annotated[str, Meta(description="The service", examples=["https://ledger.example"])]
    token_endpoint: Annotated[str, Meta(description="Where tokens are", examples=["https://ledger.example/…"])]
    jwks_uri: Annotated[str, Meta(description="Where the public keys are", examples=["https://ledger.example/…"])]
    grant_types_supported: Annotated[list[str], Meta(description="RFC 8414", examples=[["client_credentials"]])]
    token_endpoint_auth_methods_supported: Annotated[
        list[str], Meta(description="RFC 8414", examples=[["client_secret_basic"]])
    ]
    response_types_supported: Annotated[list[str], Meta(description="None: there is no login page", examples=[[]])]


class Jwk(Struct, frozen=True):
    """A public key (RFC 8037)."""

    kty: Annotated[str, Meta(description="Kind of key", examples=["OKP"])]
    crv: Annotated[str, Meta(description="Its curve", examples=["Ed25519"])]
    x: Annotated[str, Meta(description="The key", examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])]
    kid: Annotated[
        str,
        Meta(
            description="Its thumbprint (RFC 7638); tokens and receipts name it",
            examples=["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"],
        ),
    ]
    use: Annotated[str, Meta(description="Always sig", examples=["sig"])]
    alg: Annotated[str, Meta(description="Always EdDSA", examples=["EdDSA"])]


class Jwks(Struct, frozen=True):
    """The public keys of tokens and receipts (RFC 7517)."""

    keys: list[Jwk]


class NewClientBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A client to add."""

    client_id: ClientId
    role: Role
    games: Games | None = None
    types: Types | None = None
    public_key: PublicKey | None = None


class RotateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the present secret stays valid."""

    grace_s: Annotated[
        int,
        Meta(ge=0, le=GRACE_S_MAX, description="Seconds for which the present secret stays valid", examples=[3_600]),
    ] = 0


class AddedClient(Struct, frozen=True):
    """A client with its secret, which is shown once."""

    client_id: ClientId
    role: _RoleOf
    games: Games | None
    types: Types | None
    public_key: PublicKey | None
    client_secret: NewSecret


class RotatedClient(Struct, frozen=True):
    """A client's new secret, which is shown once."""

    client_id: ClientId
    client_secret: NewSecret


class ListedClient(Struct, frozen=True):
    """A client."""

    client_id: ClientId
    role: _RoleOf
    games: Games | None
    types: Types | None
    public_key: PublicKey | None
    created_at_us: _TimeUs
    secret_since_us: _TimeUs
    old_secret_until_us: (
        Annotated[
            int,
            Meta(ge=0, le=TIME_US_MAX, description="Until then the secret before is valid; null: it is not"),
        ]
        | None
    )
    disabled_at_us: Annotated[int, Meta(ge=0, le=TIME_US_MAX, description="Null: it is not disabled")] | None


class ListedClients(Struct, frozen=True):
    """All clients, disabled ones too, by id."""

    items: list[ListedClient]
