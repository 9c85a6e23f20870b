"""Words that made the code hard to read stay out of it: names, comments, messages and documents."""

import re
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

INSTEAD: Final = {
    r"whoever|whomever|whom": "name the process, the user or the caller",
    r"nobody|anybody|somebody|everybody": "name the process, the user or the caller; `all users`",
    r"anew": "again, from scratch, or `rebuild`",
    r"askings?": "request, call or read",
    r"of before": "previous, or `before the change`",
    r"stands? still|stood still": "is quarantined, makes no progress, or hangs",
    r"(?:be|is|are|was|were) had": "available",
    r"for ever": "without limit, or permanently",
    r"heirs?": "standby",
    r"tells? apart": "distinguishes",
    r"sakes?": "name the reason",
    r"unheard": "silently, or without a log line",
}
"""A pattern of words, and what to write instead."""

_TEXTS: Final = {".py", ".md", ".yaml", ".cfg", ".toml", ".http", ".sh", ""}
_LEFT_OUT: Final = {
    *("LICENSE", "src/stakelog_client/LICENSE", "src/api/openapi/LICENSE-scalar", "requirements.lock"),
    *("schemas/openapi.json", "src/api/openapi/document.json"),
    "tests/unit/test_plain_english.py",
}
# A word right behind a quote or a slash is data: a user id of a test, or a name in a message between nodes.
_WORD: Final = re.compile(rf"(?<![\"`/])\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)


def texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if name not in _LEFT_OUT]
    return [ROOT / name for name in names if Path(name).suffix in _TEXTS and (ROOT / name).is_file()]


def found_in(text: str) -> list[tuple[int, str]]:
    # An underscore joins words in names, and a line break may stand between two words of a sentence.
    plain = text.replace("_", " ")
    return [(plain.count("\n", 0, match.start()) + 1, match[0]) for match in _WORD.finditer(plain)]


def test_no_text_uses_a_word_that_has_a_plain_one() -> None:
    assert len(texts()) > 300
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in texts()
        for line, word in found_in(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["write it plainly:", *found])


def test_the_words_are_found_in_names_and_sentences() -> None:
    assert found_in("def until_nobody_reads():\n    # made Anew\n") == [(1, "nobody"), (2, "Anew")]
    assert not found_in('the body is newly made; renewed; the user "nobody"')
