"""The one error of this package: a sentence for the user, without a traceback."""


class Trouble(Exception):
    """What went wrong, where, and what to do."""
