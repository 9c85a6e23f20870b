"""Three generators make a client from the document, each compiles, and named schemas and error responses are in it.

The generators are installed by their ordinary package clients, at pinned versions. Without Node.js or Go the tests of
those two are skipped on a developer's machine; under CI a missing tool is a failure.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.local.install import find
from schemas.generate.files import FOLDER

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # chosen: Go compiles the generator, and then its output

DOCUMENT: Final = FOLDER / "openapi.json"
TOOLS: Final = Path(__file__).parents[2] / "build" / "generators"
OPENAPI_TYPESCRIPT: Final = ("openapi-typescript@7.13.0", "typescript@5.9.3")
OAPI_CODEGEN: Final = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

COMPONENTS: Final[dict[str, Any]] = json.loads(DOCUMENT.read_bytes())["components"]
SCHEMAS: Final = tuple(COMPONENTS["schemas"])
RESPONSES: Final = tuple(COMPONENTS["responses"])


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def need(tool: str) -> str:
    found = find(tool, *(("/usr/local/go/bin",) if tool == "go" else ()))
    if found is None:
        message = f"{tool} is not installed: `python3 -m deploy.local install` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return str(found)


def test_openapi_python_client_keeps_schemas_and_problems(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"  # it formats with ruff, beside it
    output = run(
        *(str(scripts / "openapi-python-client"), "generate", "--path", str(DOCUMENT), "--meta", "none"),
        *("--output-path", str(tmp_path / "client")),
        folder=tmp_path,
        PATH=path,
    )
    # It knows no response of many JSON documents; every other operation is whole.
    assert output.count("will be omitted") == output.count("application/x-ndjson)") == 1, output
    run(sys.executable, "-m", "compileall", "-q", "client", folder=tmp_path)
    models = (tmp_path / "client" / "models" / "__init__.py").read_text()
    unions = {name for name, schema in COMPONENTS["schemas"].items() if "properties" not in schema}
    for name in SCHEMAS:
        assert name in unions or re.search(rf"\bimport {name}\b", models), name
    assert "import ProblemCode" in models
    post = (tmp_path / "client" / "api" / "commands" / "post_command.py").read_text()
    for status in (400, 401, 403, 405, 409, 413, 415, 422, 500, 503):
        assert f"response_{status} = Problem.from_dict" in post, status


def test_openapi_typescript_keeps_schemas_and_problems(tmp_path: Path) -> None:
    npm, tools = need("npm"), TOOLS / "typescript"
    tools.mkdir(parents=True, exist_ok=True)
    run(npm, "install", "--no-audit", "--no-fund", "--no-save", *OPENAPI_TYPESCRIPT, folder=tools)
    scripts = tools / "node_modules" / ".bin"
    run(str(scripts / "openapi-typescript"), str(DOCUMENT), "-o", str(tmp_path / "client.ts"), folder=tools)
    run(str(scripts / "tsc"), "--noEmit", "--strict", str(tmp_path / "client.ts"), folder=tools)
    text = (tmp_path / "client.ts").read_text()
    _, _, components = text.partition("export interface components")
    schemas, _, responses = components.partition("\n    responses: {")
    for name in SCHEMAS:
        assert re.search(rf"^        {name}: ", schemas, re.MULTILINE), name
    for name in RESPONSES:
        assert re.search(rf"^        {name}: ", responses, re.MULTILINE), name
        assert f'components["responses"]["{name}"]' in text, name
    assert '"application/problem+json": components["schemas"]["Problem"]' in responses


def test_oapi_codegen_keeps_schemas_and_problems(tmp_path: Path) -> None:
    go, tools = need("go"), TOOLS / "go"
    tools.mkdir(parents=True, exist_ok=True)
    run(go, "install", OAPI_CODEGEN, folder=tools, GOBIN=str(tools))
    text = run(
        *(str(tools / "oapi-codegen"), "-generate", "types,client", "-package", "stakelog", str(DOCUMENT)),
        folder=tmp_path,
    )
    (tmp_path / "client.go").write_text(text)
    (tmp_path / "go.mod").write_text("module stakelog\n\ngo 1.24\n")
    run(go, "mod", "tidy", folder=tmp_path)
    run(go, "build", "./...", folder=tmp_path)
    for name in (*SCHEMAS, *RESPONSES):
        assert re.search(rf"^type {name} ", text, re.MULTILINE), name
    for status, name in ((400, "BadRequest"), (409, "Conflict"), (422, "Refused"), (503, "Unavailable")):
        assert re.search(rf"ApplicationproblemJSON{status} +\*{name}\b", text), status
