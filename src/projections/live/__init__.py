"""The live feeds: what changed is pushed to subscribers.

========================  ===========================================================================================
``hub``                   all feeds of one process: what to read, and when
``feed``                  one of them: how far its client has got, and the messages that wait for it
``topics``                what a feed is about, read from the tables: a user or a game
``port``                  who is told that something changed; ``redis`` and ``memory`` are its adapters
``tail``                  finds out what changed from the log, where the process has it
========================  ===========================================================================================
"""
