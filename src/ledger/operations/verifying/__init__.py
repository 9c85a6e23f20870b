"""How the auditor reads and recomputes a log. Nothing in this package imports the code that decides or writes events.

``records`` reads a record and writes it again, byte for byte; ``postings`` recomputes the postings and balances of an
event, ``gifts`` those of gifts and referral codes; ``follow_ups`` matches what one wallet sends with what another
wallet records; ``settlements`` matches the bets of games with the outcomes of their periods, and ``pay_tables``
computes what they pay; ``commissions`` recomputes those; ``money_flows`` checks what led to the ledger's own bonuses,
and ``money_rules`` has what the operator's rules give; ``shapes`` has the data of each event type;
``unique_ids`` finds an id that is used twice; ``damage`` names the damaged record; ``anchors`` has the heads that the
log must go through.
"""
