"""The routes of webhooks; ``table`` has the others."""

from typing import Final

from api.http.problems import BODY
from api.http.routing import AnyRoute, Body, Route
from api.http.webhook_bodies import (
    AddedWebhook,
    DeadLetters,
    NewWebhookBody,
    ReplayBody,
    Revived,
    RevivedBody,
    RotatedWebhook,
    Webhook,
    WebhookBody,
    WebhookRotateBody,
    Webhooks,
)
from api.identity.identity import ADMIN, AUDITOR, OPERATOR
from api.routes.parameters import DeadLettersQuery, OfWebhook
from api.routes.webhooks import (
    delete_webhook,
    get_dead_letters,
    get_webhooks,
    post_dead_letters,
    post_replay,
    post_webhook,
    post_webhook_change,
    post_webhook_rotation,
)

_CHANGES: Final = (ADMIN,)
_READS: Final = (OPERATOR, AUDITOR, ADMIN)
_REPLAYS: Final = (OPERATOR, ADMIN)
_STORE: Final = ("not_found", "log_unavailable")
_TAKES: Final = (*BODY, *_STORE)

WEBHOOK_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/webhooks",
        handler=get_webhooks,
        roles=_READS,
        returns=(Body(Webhooks, "All webhooks", examples=("webhooks",)),),
        problems=_STORE,
        tag="webhooks",
        operation="getWebhooks",
        summary="Read all webhooks, and how far each of them got",
        description="Disabled ones too. Secrets cannot be read.",
    ),
    Route(
        method="POST",
        path="/v1/webhooks",
        handler=post_webhook,
        takes=NewWebhookBody,
        roles=_CHANGES,
        body=Body(NewWebhookBody, "The webhook", examples=("webhook.new",)),
        returns=(
            Body(
                AddedWebhook,
                "Added; this is the only time that its secret is shown",
                201,
                examples=("webhook.added",),
            ),
        ),
        problems=(*_TAKES, "too_many_webhooks"),
        tag="webhooks",
        operation="postWebhook",
        summary="Add a webhook",
        description="It gets each event of its types at least once, those of a user in their order.",
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}",
        handler=post_webhook_change,
        parameters=OfWebhook,
        takes=WebhookBody,
        roles=_CHANGES,
        body=Body(WebhookBody, "The webhook as it is to be", examples=("webhook.change",)),
        returns=(Body(Webhook, "The webhook as it is now", examples=("webhook",)),),
        problems=_TAKES,
        tag="webhooks",
        operation="postWebhookChange",
        summary="Change a webhook, or disable it",
        description="A webhook that is enabled again gets what came meanwhile. Other types count for later events.",
    ),
    Route(
        method="DELETE",
        path="/v1/webhooks/{webhook_id}",
        handler=delete_webhook,
        parameters=OfWebhook,
        roles=_CHANGES,
        returns=(Body(None, "Deleted", 204, None),),
        problems=_STORE,
        tag="webhooks",
        operation="deleteWebhook",
        summary="Delete a webhook, with its dead letters",
        description="A node that sends to it stops within some seconds.",
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}/rotate",
        handler=post_webhook_rotation,
        parameters=OfWebhook,
        takes=WebhookRotateBody,
        roles=_CHANGES,
        body=Body(WebhookRotateBody, "How long both secrets sign", examples=("webhook.rotate",)),
        returns=(Body(RotatedWebhook, "The new secret, which is shown once", examples=("webhook.rotated",)),),
        problems=_TAKES,
        tag="webhooks",
        operation="postWebhookRotation",
        summary="Give a webhook a new secret",
        description="For `grace_s` each request has two signatures: by the new secret, and by the one before.",
    ),
    Route(
        method="GET",
        path="/v1/webhooks/{webhook_id}/dead-letters",
        handler=get_dead_letters,
        parameters=OfWebhook,
        query=DeadLettersQuery,
        roles=_READS,
        returns=(Body(DeadLetters, "A page, by position", examples=("dead_letters",)),),
        problems=_STORE,
        tag="webhooks",
        operation="getDeadLetters",
        summary="Read the events that a webhook did not take",
        description="They stay until they are replayed, or until the webhook is deleted.",
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}/dead-letters/replay",
        handler=post_dead_letters,
        parameters=OfWebhook,
        takes=RevivedBody,
        roles=_REPLAYS,
        body=Body(RevivedBody, "Which dead letters", examples=("dead_letters.replay",)),
        returns=(Body(Revived, "They are sent again", examples=("dead_letters.revived",)),),
        problems=_TAKES,
        tag="webhooks",
        operation="postDeadLetterReplay",
        summary="Send dead letters again",
        description="Under the same `webhook-id`, after later events of their users.",
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}/replay",
        handler=post_replay,
        parameters=OfWebhook,
        takes=ReplayBody,
        roles=_REPLAYS,
        body=Body(ReplayBody, "The first event of each partition to repeat", examples=("webhook.replay",)),
        returns=(Body(None, "The events from there on are sent again", 204, None),),
        problems=_TAKES,
        tag="webhooks",
        operation="postReplay",
        summary="Send the events from a position on again",
        description=(
            "Under the same `webhook-id`, those of a user in their order. Dead letters from there on are deleted: "
            "they are sent with the others. Nothing changes for a partition that has not got so far."
        ),
    ),
)
