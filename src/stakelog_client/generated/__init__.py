"""Written by `make schemas` from openapi.json: `commands` and `reads` (on asyncio), `blocking_commands` and
`blocking_reads`, `models` (results), `refusals` (one exception for each code).
"""
