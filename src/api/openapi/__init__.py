"""The OpenAPI document of the API, made from the route table: ``document``; and what serves it: ``page``.

``schemas/generate`` makes the document and writes it to ``document.json`` here, from which the service serves it.
"""
