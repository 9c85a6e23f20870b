"""``/v1/gifts/{code}`` and ``/v1/referral-codes/{code}``."""

from api.http.compression import json_response
from api.http.consistency import body_of, read_until_visible
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import OfCode, ReadQuery
from ledger.core.fields import CODE_STREAM, GIFT_STREAM


async def get_gift(service: Service, request: Request[OfCode, ReadQuery]) -> Response:
    code, reads = request.path.code, service.reads
    partition = reads.partition_of(GIFT_STREAM + code)
    return json_response(
        request, body_of(await read_until_visible(request, reads, (partition,), lambda: reads.gift(code)))
    )


async def get_referral_code(service: Service, request: Request[OfCode, ReadQuery]) -> Response:
    code, reads = request.path.code, service.reads
    partition = reads.partition_of(CODE_STREAM + code)
    found = await read_until_visible(request, reads, (partition,), lambda: reads.referral_code(code))
    return json_response(request, body_of(found))
