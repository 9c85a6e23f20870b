"""The pure core: what may happen to a wallet. It imports the standard library and msgspec only.

In the order of reading: ``money``, ``position``, ``fields`` (their types), ``commands``, ``rejections``, ``events``,
``items``, ``wallet`` (the state), ``evolve`` (how it changes), ``postings`` (what the deciders share), ``decide``
(commands), ``follow_ups`` (the commands that events send), ``record`` (event ↔ bytes), ``state_values`` (the state as
a store keeps it), and ``assignment`` (which node owns which partition).
"""
