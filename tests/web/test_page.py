"""What docs/http.md types is done, and answered as it says."""

import shlex
from dataclasses import dataclass

import httpx2 as httpx

from events.partitioner import partition_of
from partita.web.positions import encoded
from tests.docs.pages import blocks
from tests.web.conftest import Served

HOST = "http://127.0.0.1:8080"
README_PARTITIONS = 6


@dataclass
class Typed:
    """One command line of curl."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None

    @classmethod
    def read(cls, line: str) -> "Typed":
        """Return what a line asks; it has only what the page uses of curl."""
        words = iter(shlex.split(line)[1:])
        made = cls("GET", "", {}, None)
        for word in words:
            match word:
                case "-i":
                    pass
                case "-H":
                    name, _, value = next(words).partition(": ")
                    made.headers[name.lower()] = value
                case "-d":
                    made.method, made.body = "POST", next(words)
                case _:
                    assert word.startswith(HOST), word
                    made.url = word.removeprefix(HOST)
        return made


def test_the_page_is_answered_as_it_says(served: Served) -> None:
    lines = [line for block in blocks("docs/http.md", "sh") for line in block.replace("\\\n", " ").splitlines()]
    first, *others = [Typed.read(line) for line in lines if line.startswith("curl ")]
    (shown,) = (block for block in blocks("docs/http.md", "text") if block.startswith("HTTP/1.1"))
    told = dict(line.split(": ") for line in shown.splitlines()[1:])
    assert told["partita-position"] == encoded({partition_of("ivan", README_PARTITIONS): 1})

    with httpx.Client(base_url=served.url, timeout=30) as client:
        posted = client.request(first.method, first.url, headers=first.headers, content=first.body)
        assert posted.status_code == 201, posted.text
        assert told.keys() <= posted.headers.keys()
        assert posted.headers["idempotency-key"] == told["idempotency-key"]
        for typed in others:
            headers = {**typed.headers, "partita-min-position": posted.headers["partita-position"]}
            assert typed.headers.get("partita-min-position", told["partita-position"]) == told["partita-position"]
            answer = client.request(typed.method, typed.url, headers=headers, content=typed.body)
            assert answer.status_code == 200, typed
            assert "ivan" in answer.text
        again = client.request(first.method, first.url, headers=first.headers, content=first.body)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
