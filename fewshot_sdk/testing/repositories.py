"""What `testing.LocalHub` holds: repositories whose contents lie under their hashes, every commit kept."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Repository:
    """Commits (id -> path -> SHA-256 of the content), and the branches, tags and pull requests that name them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a pull request or a full commit id names."""
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


class Store:
    """All repositories, `user/name` -> Repository, and all contents, SHA-256 -> bytes."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.contents: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def keep(self, data: bytes) -> str:
        """Keeps some bytes; returns their SHA-256."""
        oid = hashlib.sha256(data).hexdigest()
        self.contents[oid] = data
        return oid

    def commit(self, name: str, changes: Mapping[str, str | None], title: str, branch: str, onto: str) -> str:
        """A commit that puts contents at paths, or removes what is there (None), on top of the revision `onto`.

        `branch` names it from now on. Returns its id.
        """
        with self.lock:
            repository = self.repositories.setdefault(name, Repository())
            parent = repository.find(onto) or ""
            files = {**repository.commits.get(parent, {}), **changes}
            tree = {path: oid for path, oid in sorted(files.items()) if oid is not None}
            content = json.dumps([parent, title, len(repository.commits), tree])
            made = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
            repository.commits[made] = tree
            repository.titles[made] = title
            repository.refs[branch] = made
            return made

    def tags_of(self, name: str, commit: str) -> list[str]:
        """The tags on the card of a commit, and its library; the two simple ways to write them are understood."""
        card = self.contents.get(self.repositories[name].commits[commit].get("README.md", ""), b"").decode()
        front = card.split("---\n")[1] if card.startswith("---\n") and card.count("---\n") > 1 else ""
        inline = re.search(r"^tags: *\[(.*)\]", front, re.MULTILINE)
        block = re.search(r"^tags:\n((?: *- .*\n)+)", front, re.MULTILINE)
        tags = inline[1].split(",") if inline else re.findall(r"- (.*)", block[1]) if block else []
        return [tag.strip() for tag in tags + re.findall(r"^library_name: (.*)", front, re.MULTILINE)]
