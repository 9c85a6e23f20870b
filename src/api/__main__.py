"""``python -m api`` is ``stakelog``."""

from api.cli import main

main()
