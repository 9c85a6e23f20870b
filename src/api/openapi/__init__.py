"""The OpenAPI document of the API, made from the route table: ``document``; and what serves it: ``page``.

``schemas`` has the named schemas, ``records`` those of the events' records, ``problems`` the responses of problems.
``schemas/generate`` makes the document and writes it to ``document.json`` here, from which the service serves it.
"""
