"""The partitions of this process: the owned ones, those it stands by for, and their checkpoints.

``node`` is their life, ``owned`` that of each partition it owns, ``standby`` those of other nodes whose state it
keeps ready, ``checkpoints`` when states are saved. ``unsettled`` asks for the outcomes of periods
whose bets are open, ``kept_games`` finds games that the rules lack, ``follow_up_queue`` bounds the follow-ups that
wait in memory, ``ports`` has the other nodes; ``owns_all`` is a node without them.
"""
