"""HTTP client of a stakelog service: one set of rules for retries, time limits and paging, blocking or on asyncio.

The demo and every `audit --url` use it. It imports nothing of the service: it knows the public contract only.

    ClientError
    ├── BadAddress          the URL is not http(s)://host:port
    ├── BadLogin            the file of a client's credentials cannot be used
    ├── NoUsableResponse    no connection, no response in time, or a status that asks for a retry
    └── UnexpectedResponse  a response that the contract does not have

Invariants:

1. A request without a usable response is sent again until `Policy.within_s` is over; then NoUsableResponse is raised.
   A caller sends only requests that may be repeated: reads, and commands under the same `command_id`.
2. A pause is what the service names in `Retry-After`, else random and growing; it is at most `Policy.pause_s_max`.
3. No proxy of the environment is used, and no redirect is followed: requests go to the service that was named.

- `responses`: a response, its problem, and the errors.
- `retry`: which responses are retried, and when.
- `paths`: paths and queries.
- `login`: the access tokens of a client.
- `transport`: httpx on asyncio, over aiohttp.
- `client`: `Client` (blocking, safe to share between threads) and `AsyncClient`.
"""
