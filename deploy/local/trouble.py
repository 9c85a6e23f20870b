"""The one error of this package: a sentence for whoever started it, without a traceback."""


class Trouble(Exception):
    """What went wrong, where, and what to do."""
