"""``python -m schemas.generate``: write ``schemas/`` from the code."""

import sys

from schemas.generate.files import ELSEWHERE, FOLDER, elsewhere, files, write

if __name__ == "__main__":
    found = files()
    write(FOLDER, found)
    for name, content in elsewhere().items():
        ELSEWHERE[name].write_bytes(content)
    sys.stdout.write(f"wrote {len(found)} files to {FOLDER}\n")
