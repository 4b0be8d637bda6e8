"""The requests of huggingface_hub 2.4 and minimal answers to them, for `testing.LocalHub`.

Only model repositories; uploads over HTTP (LFS, basic transfer), not Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from fewshot_sdk.testing.http import Answer, Request, as_json
from fewshot_sdk.testing.repositories import Repository, Store

LFS = (".safetensors", ".onnx", ".png", ".bin")
_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_REFUSALS = {
    401: (None, "Invalid username or password."),
    403: (None, "You don't have the rights to do this"),
    404: ("RepoNotFound", "Repository not found"),
    429: (None, "Too Many Requests"),
}


def refuse(status: int, code: str | None = None, message: str | None = None) -> Answer:
    """An error, named in the Hub's own headers."""
    default_code, default_message = _REFUSALS.get(status, (None, "Service Unavailable"))
    headers = {"X-Error-Message": message or default_message}
    if code or default_code:
        headers["X-Error-Code"] = str(code or default_code)
    return Answer(status, json.dumps({"error": message or default_message}).encode(), headers)


class Protocol:
    """Answers requests from a store; `url` is the Hub's address."""

    def __init__(self, store: Store, user: str, token: str) -> None:
        self.store, self.user, self.token, self.url = store, user, token, ""

    def answer(self, request: Request) -> Answer:
        """The Hub's answer to a request."""
        path = urlsplit(request.path).path
        for method, pattern, act in _ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, path)):
                words = {name: unquote(word) for name, word in found.groupdict().items() if word is not None}
                return self._forbidden(request, words) or act(self, request, words)
        return refuse(404, message=f"LocalHub has no {request.method} {path}")

    def _known(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def _forbidden(self, request: Request, words: dict[str, str]) -> Answer | None:
        """The refusal if this client may not do that; as on the Hub, a stranger gets 401 for a missing repository."""
        if request.method == "PUT" or self._known(request):  # knowing the address of a PUT is enough, as on the Hub
            missing = "id" in words and words["id"] not in self.store.repositories
            return refuse(404, "RepoNotFound") if missing else None
        if request.method == "POST":
            return refuse(401)
        if "id" not in words:
            return None
        repository = self.store.repositories.get(words["id"])
        if repository is None or repository.private:
            return refuse(401, "RepoNotFound")
        return refuse(403, "GatedRepo") if repository.gated and "path" in words else None

    def _who(self, _request: Request, _words: dict[str, str]) -> Answer:
        return as_json({"name": self.user, "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, request: Request, _words: dict[str, str]) -> Answer:
        settings = json.loads(request.body)
        name = f"{settings.get('organization') or self.user}/{settings['name']}"
        exists = name in self.store.repositories
        if not exists:
            private = settings.get("visibility") == "private" or settings.get("private") is True
            self.store.repositories[name] = Repository(private=private)
            self.store.commit(name, {}, "initial commit", "main", "main")
        return as_json({"url": f"{self.url}/{name}", "id": name}, 409 if exists else 200)

    def _check_card(self, _request: Request, _words: dict[str, str]) -> Answer:
        return as_json({"errors": [], "warnings": []})

    def _preupload(self, request: Request, _words: dict[str, str]) -> Answer:
        def kind(path: str) -> str:
            return "lfs" if path.endswith(LFS) else "regular"

        paths = [file["path"] for file in json.loads(request.body)["files"]]
        files = [{"path": path, "uploadMode": kind(path), "shouldIgnore": False} for path in paths]
        return as_json({"files": files})

    def _batch(self, request: Request, words: dict[str, str]) -> Answer:
        objects: list[dict[str, object]] = []
        for sent in json.loads(request.body)["objects"]:
            entry = {"oid": sent["oid"], "size": sent["size"]}
            if sent["oid"] not in self.store.contents:
                home = f"{self.url}/{words['id']}.git/info/lfs"
                upload, verify = {"href": f"{home}/objects/{sent['oid']}", "header": {}}, {"href": f"{home}/verify"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        return as_json({"transfer": "basic", "objects": objects})

    def _put(self, request: Request, words: dict[str, str]) -> Answer:
        same = hashlib.sha256(request.body).hexdigest() == words["oid"]
        if same:
            self.store.keep(request.body)
        return Answer() if same else refuse(422, message="the content does not match its oid")

    def _verify(self, request: Request, _words: dict[str, str]) -> Answer:
        sent = json.loads(request.body)
        stored = len(self.store.contents.get(sent["oid"], b"")) == sent["size"]
        return as_json({}) if stored else refuse(404, "EntryNotFound", "no such object")

    def _commit(self, request: Request, words: dict[str, str]) -> Answer:
        name, onto, title = words["id"], words["rev"], ""
        repository = self.store.repositories[name]
        changes: dict[str, str | None] = {}
        for line in request.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                title = value["summary"]
            elif entry["key"] == "file":
                changes[value["path"]] = self.store.keep(base64.b64decode(value["content"]))
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = value["oid"]
            elif entry["key"] == "deletedFile":
                changes[value["path"]] = None
        if repository.find(onto) is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {onto}")
        pull_request = None
        branch = onto
        if parse_qs(urlsplit(request.path).query).get("create_pr") == ["1"]:
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
            branch, pull_request = f"refs/pr/{number}", f"{self.url}/{name}/discussions/{number}"
        commit = self.store.commit(name, changes, title, branch, onto)
        url = f"{self.url}/{name}/commit/{commit}"
        return as_json({"commitUrl": url, "commitOid": commit, "pullRequestUrl": pull_request})

    def _list(self, request: Request, _words: dict[str, str]) -> Answer:
        wanted = set(parse_qs(urlsplit(request.path).query).get("filter", []))
        found = []
        for name, repository in sorted(self.store.repositories.items()):
            commit = repository.refs["main"]
            tags = self.store.tags_of(name, commit)
            if wanted <= set(tags) and (self._known(request) or not repository.private):
                found.append({"id": name, "sha": commit, "private": repository.private, "tags": tags})
        return as_json(found)

    def _info(self, _request: Request, words: dict[str, str]) -> Answer:
        name = words["id"]
        repository = self.store.repositories[name]
        commit = repository.find(words.get("rev", "main"))
        if commit is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {words['rev']}")
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        info = {"id": name, "sha": commit, "private": repository.private, "tags": self.store.tags_of(name, commit)}
        return as_json({**info, "siblings": siblings})

    def _tree(self, _request: Request, words: dict[str, str]) -> Answer:
        repository = self.store.repositories[words["id"]]
        commit = repository.find(words["rev"])
        if commit is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {words['rev']}")
        return as_json([self._entry(path, oid) for path, oid in repository.commits[commit].items()])

    def _paths(self, request: Request, words: dict[str, str]) -> Answer:
        paths = parse_qs(request.body.decode())["paths"]  # the only request that sends a form
        return as_json([entry for entry in json.loads(self._tree(request, words).body) if entry["path"] in paths])

    def _entry(self, path: str, oid: str) -> dict[str, object]:
        data = self.store.contents[oid]
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": _git_id(data)}
        return {**entry, "lfs": {"oid": oid, "size": len(data), "pointerSize": 134}} if path.endswith(LFS) else entry

    def _refs(self, _request: Request, words: dict[str, str]) -> Answer:
        repository = self.store.repositories[words["id"]]
        refs: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for name, commit in repository.refs.items():
            kind, ref = ("tags", f"refs/tags/{name}") if name in repository.tags else ("branches", f"refs/heads/{name}")
            if name.startswith("refs/pr/"):
                kind, ref = "pullRequests", name
            refs[kind].append({"name": name, "ref": ref, "targetCommit": commit})
        return as_json(refs)

    def _name(self, request: Request, words: dict[str, str]) -> Answer:
        repository = self.store.repositories[words["id"]]
        sent = json.loads(request.body or b"{}")
        tag = words["kind"] == "tag"
        name, start = (sent["tag"], words["rev"]) if tag else (words["rev"], sent.get("startingPoint", "main"))
        commit = repository.find(start)
        if commit is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {start}")
        if name in repository.refs:
            return refuse(409, message=f"{name} exists")
        repository.refs[name] = commit
        repository.tags |= {name} if tag else set()
        return as_json({})

    def _file(self, _request: Request, words: dict[str, str]) -> Answer:
        repository = self.store.repositories[words["id"]]
        commit = repository.find(words["rev"])
        if commit is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {words['rev']}")
        oid = repository.commits[commit].get(words["path"])
        if oid is None:
            return refuse(404, "EntryNotFound", "Entry not found")
        data = self.store.contents[oid]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_id(data)}"', "Accept-Ranges": "bytes"}
        if words["path"].endswith(LFS):
            headers |= {"ETag": f'"{oid}"', "X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        return Answer(200, data, headers)


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


_Act = Callable[[Protocol, Request, dict[str, str]], Answer]
_MODEL = rf"/api/models/{_ID}"
_REV, _PATH = r"(?P<rev>refs/pr/\d+|refs%2Fpr%2F\d+|[^/]+)", r"(?P<path>.+)"
_ROUTES: tuple[tuple[str, str, _Act], ...] = (
    ("GET", "/api/whoami-v2", Protocol._who),
    ("POST", "/api/repos/create", Protocol._create),
    ("POST", "/api/validate-yaml", Protocol._check_card),
    ("GET", "/api/models", Protocol._list),
    ("POST", rf"{_MODEL}/preupload/{_REV}", Protocol._preupload),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", Protocol._batch),
    ("PUT", rf"/{_ID}\.git/info/lfs/objects/(?P<oid>[0-9a-f]{{64}})", Protocol._put),
    ("POST", rf"/{_ID}\.git/info/lfs/verify", Protocol._verify),
    ("POST", rf"{_MODEL}/commit/{_REV}", Protocol._commit),
    ("GET", rf"{_MODEL}(?:/revision/{_REV})?", Protocol._info),
    ("GET", rf"{_MODEL}/tree/{_REV}(?:/.*)?", Protocol._tree),
    ("POST", rf"{_MODEL}/paths-info/{_REV}", Protocol._paths),
    ("GET", rf"{_MODEL}/refs", Protocol._refs),
    ("POST", rf"{_MODEL}/(?P<kind>tag|branch)/(?P<rev>.+)", Protocol._name),
    ("HEAD", rf"/{_ID}/resolve/{_REV}/{_PATH}", Protocol._file),
    ("GET", rf"/{_ID}/resolve/{_REV}/{_PATH}", Protocol._file),
)
