"""``python -m api`` is ``stakelog``."""

from api.cli.main import main

main()
