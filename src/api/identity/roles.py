"""Which role may post which type of command: one table, from the contract.

Who may use a route is in the route's row (``api.routes.table``). The two routes that post commands check the type of
each command here, because each element of a batch has its own. ``docs/roles.md`` is made from both tables.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from api.identity.identity import GAME_SERVER, OPERATOR, Identity
from ledger.core.commands import Adjust, Command, GrantBonus

_GAME_SERVER: Final = (GAME_SERVER,)
_OPERATOR: Final = (OPERATOR,)
_BOTH: Final = (GAME_SERVER, OPERATOR)

MAY_POST: Final[Mapping[str, tuple[str, ...]]] = {
    "open_wallet": _GAME_SERVER,
    "deposit": _GAME_SERVER,
    "request_withdrawal": _GAME_SERVER,
    "approve_withdrawal": _OPERATOR,
    "reject_withdrawal": _OPERATOR,
    "place_bet": _GAME_SERVER,
    "settle_bet": _GAME_SERVER,
    "cancel_bet": _GAME_SERVER,
    "hold": _GAME_SERVER,
    "capture_hold": _GAME_SERVER,
    "release_hold": _GAME_SERVER,
    "transfer": _GAME_SERVER,
    "grant_bonus": _BOTH,
    "claim_attendance": _GAME_SERVER,
    "adjust": _OPERATOR,
    "propose_adjustment": _OPERATOR,
    "approve_adjustment": _OPERATOR,
    "reject_adjustment": _OPERATOR,
    "reverse": _OPERATOR,
    "set_limits": _OPERATOR,
    "freeze_wallet": _OPERATOR,
    "unfreeze_wallet": _OPERATOR,
    "close_wallet": _OPERATOR,
    "set_agent_level": _OPERATOR,
    "record_result": _GAME_SERVER,
    "cancel_period": _BOTH,
    "create_gift": _OPERATOR,
    "close_gift": _OPERATOR,
    "claim_gift": _GAME_SERVER,
    "claim_referral_code": _GAME_SERVER,
}
"""Type of a command → the roles that may post it. An auditor, an admin and a player post nothing."""

_GAME: Final = "game:"


class Refusal(NamedTuple):
    """Why a command may not be posted; ``fields`` help the caller."""

    detail: str
    needs: tuple[str, ...]
    fields: Mapping[str, Any] = {}


def refusal_of(identity: Identity, command: Command, adjust_max: Mapping[str, int]) -> Refusal | None:
    """None: ``identity`` may post the command. ``adjust_max``: asset → the largest amount of an ``adjust``, in minor
    units; an asset without one has no bound. It bounds an operator's ``grant_bonus`` too."""
    if identity.role is None:
        return None
    kind = str(command.__struct_config__.tag)
    needs = MAY_POST[kind]
    if identity.role not in needs:
        return Refusal(f"the role {identity.role} may not post {kind}", needs)
    if identity.types is not None and kind not in identity.types:
        only = ", ".join(sorted(identity.types))
        return Refusal(f"this client may not post {kind}: it is narrowed to the types {only}", needs)
    if identity.games is not None:
        game = game_of(command)
        if game is not None and game not in identity.games:
            only = ", ".join(sorted(identity.games))
            return Refusal(f"this client is narrowed to the games {only}", needs, {"game": game})
    if isinstance(command, Adjust) and _above(command, adjust_max):
        return Refusal(
            "the amount is more than one operator may adjust: post propose_adjustment, and another operator approves",
            needs,
            {"amount_max": adjust_max[command.asset]},
        )
    if isinstance(command, GrantBonus) and identity.role == OPERATOR and _above(command, adjust_max):
        bound = {"amount_max": adjust_max[command.asset]}
        return Refusal("the amount is more than one operator may grant; a game_server may grant it", needs, bound)
    return None


def _above(command: Adjust | GrantBonus, adjust_max: Mapping[str, int]) -> bool:
    return abs(command.amount) > adjust_max.get(command.asset, abs(command.amount))


def game_of(command: Command) -> str | None:
    """The game that a command names: by its ``game``, or by its stream. The game of the bet that ``settle_bet`` and
    ``cancel_bet`` name is known to the bet's writer, which checks it (``CommandRequest.games``)."""
    game = getattr(command, "game", UNSET)
    if isinstance(game, str):
        return game
    return command.user_id.removeprefix(_GAME) if command.user_id.startswith(_GAME) else None
