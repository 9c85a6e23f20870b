"""The pure core: what may happen to a wallet. It imports the standard library and msgspec only.

In the order of reading: ``money``, ``position``, ``fields`` (their types), ``commands``, ``follow_up_commands``,
``rejections``, ``event_base``, ``bet_events``, ``bonus_events``, ``commission_events``, ``gift_events``,
``hold_events``, ``events``, ``items``, ``wallet`` (the state), ``rules_file``, ``money_rules`` and ``games`` (the
operator's rules, the periods of games), ``wagering``, ``changes``, ``bet_changes`` and ``evolve`` (how the state
changes),
``postings`` and ``case`` (what the deciders share), ``soundness`` (what is true of every decided event),
``adjustments``, ``bets``, ``bonuses``, ``commissions``, ``gifts``, ``holds``, ``referral_codes``, ``withdrawals`` and
``decide`` (commands), ``consequences`` (what an event causes on its own wallet), ``follow_ups`` (the commands that
events send), ``settlement`` (how the outcome of a period ends its bets), ``record`` (event ↔ bytes), ``state_values``
(the state as a store keeps it), and ``assignment`` (which node owns which partition).
"""
