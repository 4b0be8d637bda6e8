"""`LocalHub`: a small Hugging Face Hub on the loopback interface, for tests, with faults on demand.

    with LocalHub() as hub:
        subprocess.run(["fewshot", "pull", "user/repo"], env={**os.environ, **hub.environment})

The real `huggingface_hub` client talks to it over a real socket: `create_repo`, `upload_folder`,
`snapshot_download`, `hf_hub_download`, `model_info`, `list_models`, branches and tags.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from fewshot_sdk.testing.http import Answer, Request, Server, as_json
from fewshot_sdk.testing.protocol import Protocol, refuse
from fewshot_sdk.testing.repositories import Repository, Store

Kind = Literal[
    "401", "403", "404", "429", "500", "503", "stall", "truncate", "wrong bytes", "oversize", ".. names", "no commit"
]
FOREVER = 10**9


@dataclass
class _Fault:
    kind: Kind
    on: str
    times: int


class LocalHub:
    """A Hub that listens at `url` for the length of its `with` block and knows one user with one token.

    requests: a line `METHOD path` for each request so far.
    """

    def __init__(self, *, user: str = "user", token: str = "hf_local") -> None:
        self.token = token
        self.requests: list[str] = []
        self._store = Store()
        self._protocol = Protocol(self._store, user, token)
        self._faults: list[_Fault] = []
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._server = Server(self._respond)
        self.url = self._protocol.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()  # releases the requests that a fault has stalled
        self._server.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a new process use this Hub, with the token.

        Uploads then go over HTTP: the client for Xet storage cannot talk to this Hub.
        """
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": self.token, "HF_HUB_DISABLE_XET": "1"}

    def repository(self, name: str) -> Repository:
        """The repository `user/name`, whose `private`, `gated`, `commits` and `refs` may be changed."""
        return self._store.repositories[name]

    def commit(self, name: str, files: Mapping[str, bytes | None], *, branch: str = "main", title: str = "") -> str:
        """Put files into a repository, created if need be; None removes one. Returns the commit's id."""
        changes = {path: None if data is None else self._store.keep(data) for path, data in files.items()}
        return self._store.commit(name, changes, title, branch, branch)

    def tag(self, name: str, tag: str, revision: str = "main") -> None:
        """Create a tag, or move it."""
        repository = self.repository(name)
        repository.refs[tag] = repository.refs.get(revision, revision)
        repository.tags.add(tag)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository at a revision."""
        repository = self.repository(name)
        tree = repository.commits[repository.refs.get(revision, revision)]
        return {path: self._store.contents[oid] for path, oid in tree.items()}

    def fault(self, kind: Kind, *, on: str = "", times: int = FOREVER) -> None:
        """Make the next `times` requests fail whose `METHOD path` matches the regular expression `on`.

        A number is the status of a refusal; `stall` does not answer until the Hub closes; `truncate` closes the
        connection halfway through the body; `wrong bytes` sends as many bytes, with one bit flipped; `oversize` sends
        the body three times; `.. names` adds `../evil.json` to a listing; `no commit` has a number where its
        commit stands.
        """
        self._faults.append(_Fault(kind, on, times))

    def heal(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def _respond(self, request: Request) -> Answer | None:
        line = f"{request.method} {request.path}"
        with self._store.lock:
            self.requests.append(line)
            fault = next((fault for fault in self._faults if fault.times > 0 and re.search(fault.on, line)), None)
            if fault:
                fault.times -= 1
        if fault is None:
            return self._protocol.answer(request)
        if fault.kind == "stall":
            self._closing.wait()
            return None
        if fault.kind.isdigit():
            message = f"refused {request.headers.get('authorization')}"  # some servers do repeat a token
            return refuse(int(fault.kind), message=message)
        return _damaged(self._protocol.answer(request), fault.kind)


def _damaged(answer: Answer, kind: Kind) -> Answer:
    if kind == "truncate":
        return replace(answer, cut=True)
    if kind == "wrong bytes":
        return answer.with_a_flipped_bit()
    if kind == "oversize":
        return replace(answer, body=answer.body * 3)
    listing = json.loads(answer.body)
    if kind == "no commit":
        return as_json({**listing, "sha": 7})
    name = "../evil.json"
    if isinstance(listing, list):
        return as_json([*listing, {"type": "file", "path": name, "size": 2, "oid": "0" * 40}])
    return as_json({**listing, "siblings": [*listing["siblings"], {"rfilename": name}]})
