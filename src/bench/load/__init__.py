"""Load: the requests as bytes, the generator that counts responses, and clients that look into each response.

`bodies` makes the requests and `generator` posts them. `client` looks into responses; `retrying` retries until a
command is accepted, `paging` reads a long history, `freshness` measures when a command is visible, `feeds` has many
live feeds open. `library` posts by the client library, `grown_log` writes a long log without a service.
"""
