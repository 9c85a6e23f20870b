"""``stakelog import``: balances and history of another ledger, as commands over HTTP.

``command`` has the sub-commands, ``files`` reads rows of CSV and JSON, ``sources`` turns the rows of each product
into changes, ``plan`` checks them and orders them by wallet, ``posting`` posts them and compares the totals.
"""
