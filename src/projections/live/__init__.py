"""The live feeds: changes of wallets, bets and games are sent to the clients that follow them.

========================  ===========================================================================================
``hub``                   all feeds of one process: what to read, and when
``feed``                  one feed: what its client has already, and the messages that wait for it
``topics``                what a feed is about, read from the tables: a user or a game
``port``                  messages from projectors to hubs about what changed; adapters: ``redis``, ``memory``
``tail``                  without such messages: finds out from the log what changed (embedded mode)
========================  ===========================================================================================
"""
