"""Schemathesis asks the API what its own document allows, and what it forbids: nothing may break."""

import os
import re
import subprocess
import sys

import httpx2 as httpx

from tests.web.conftest import Served

SECONDS = 28
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "missing_required_header",
)
"""Not `positive_data_acceptance`: a request can be well formed and still be refused, as an amount of zero."""


def test_requests_of_every_kind_are_answered_as_the_document_says(served: Served) -> None:
    """No 5xx, not even a 503, since all is there; and every answer as its schema has it."""
    document = httpx.get(f"{served.url}/openapi.json").json()
    operations = sum(map(len, document["paths"].values()))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--max-time", str(SECONDS)),
            *("--max-examples", "20", "--seed", "7", "--request-timeout", "20", "--no-color"),
        ],
        env=os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(served.ledger.directory / "hypothesis")},
        cwd=served.ledger.directory,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert passed, done.stdout[-8000:]
    assert passed[1] == passed[2]
    assert int(passed[1]) > 200  # of 2,000 when nothing else is running
    assert f"Tested: {operations}" in done.stdout
