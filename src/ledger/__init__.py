"""The write side: what may happen to a wallet, and the record of what did.

Read in this order:

========================  ===========================================================================
``money``                 assets, minor units, the range of an amount
``commands``              what may be asked
``rejections``            every reason to refuse, in the order of precedence
``events``                what happened, and its postings
``entries``               what a wallet remembers under its ids
``wallet``                a wallet's state; ``evolve``: the only way that state changes
``decide``                ``decide``: one flat ladder of checks per command
``record``                event ↔ bytes, and the hash chain over them
``partitioning``          user → partition
``ports``                 what the outside must do for us: ``EventLog``, ``StateStore``, ``Clock``
``seen``                  which keys the store may hold: a filter
``state``                 a partition's state in memory, over the state store
``requests``               what is asked of a writer, and its answers
``writer``                one partition's single writer
``node``                  which partitions live here; routing; follow-ups; checkpoints
``audit``                 the log alone, examined
``folder``                the data folder of the embedded mode, and its lock
``logs``                  adapters of ``EventLog``
``state_stores``          adapters of ``StateStore``
========================  ===========================================================================

Glossary. A *command* asks, an *event* is a fact, a *record* is an event's exact bytes. *seq* is the place of an
event in its partition, a *position* names both (``"3:42"``), the *head* is the hash of a partition's last record.
A *follow-up* is a command of the ledger's own that an event sends to another wallet. An *entry* is what a wallet
remembers under an id: an order, a bet, a hold, a transfer, a grant, a proposed adjustment.
"""
