"""The operator's page at ``/admin``: `assets` serves its files.

The folder ``source`` has what the page is written in, and says how a tab is made; ``built`` has the files that are
served, which `make page` makes from it. Their routes are in ``api.routes.page_table``.
"""
