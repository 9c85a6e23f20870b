"""``python -m schemas.generate``: write ``schemas/`` from the code."""

import sys

from schemas.generate.files import FOLDER, files, write

if __name__ == "__main__":
    found = files()
    write(FOLDER, found)
    sys.stdout.write(f"wrote {len(found)} files to {FOLDER}\n")
