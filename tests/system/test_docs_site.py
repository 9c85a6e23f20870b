"""The documentation site: `make docs` builds it without a warning, and it needs no other host."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from pages import ROOT

pytestmark = pytest.mark.system
SITE: Final = ROOT / "build" / "site"
ZENSICAL: Final = ROOT / "build" / "docs-tools" / "bin" / "zensical"
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)"
    r"|<link\b(?![^>]*rel=\"?(?:canonical|next|prev))[^>]*\bhref=\"?([^\"\s>]+)"
)


@pytest.fixture(scope="module")
def site() -> Path:
    built = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    return SITE


def test_each_page_is_built_with_its_navigation_and_found_by_the_search(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    built = {page.with_name("index.html" if page.name == "README.md" else f"{page.stem}.html") for page in pages}
    indexed = {item["location"].partition("#")[0] for item in json.loads((site / "search.json").read_text())["items"]}
    for page in built:
        assert page.as_posix() in indexed or page.as_posix().removesuffix("index.html") in indexed, page
        html = (site / page).read_text(encoding="utf-8")
        assert "Switch to dark mode" in html
        assert html.count('class="md-tabs__link"') >= 5, page


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    files = list(site.rglob("*.html"))
    assert len(files) > 40
    loaded = {name for file in files for found in _LOADED.findall(file.read_text(encoding="utf-8")) for name in found}
    assert any(name.endswith(".js") for name in loaded)
    assert any(name.endswith(".css") for name in loaded)
    assert {name for name in loaded if re.match(r"(https?:)?//", name)} == set()
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []


def test_a_link_to_nowhere_ends_the_build(site: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for link in ("no-such-page.md", "glossary.md#no-such-heading"):
        (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n[broken]({link})\n")
        built = subprocess.run(
            [ZENSICAL, "build", "--strict", "--clean"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert built.returncode != 0, link
        assert "index.md:3" in built.stdout + built.stderr, (built.stdout, built.stderr)
