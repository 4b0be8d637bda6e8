"""The storage of `testing.LocalHub`: repositories with every commit, and file contents by their hash."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Repository:
    """Commits (id -> path -> SHA-256 of the content), and the branches, tags and pull requests that point to them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def find(self, revision: str) -> str | None:
        """The commit id that a branch, a tag, a pull request or a full commit id names; None if there is none."""
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


class Store:
    """All repositories, `user/name` -> Repository, and all file contents, SHA-256 -> bytes."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.contents: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def keep(self, data: bytes) -> str:
        """Keep some bytes; returns their SHA-256."""
        oid = hashlib.sha256(data).hexdigest()
        self.contents[oid] = data
        return oid

    def commit(self, name: str, changes: Mapping[str, str | None], title: str, branch: str, onto: str) -> str:
        """Commit changes on top of the revision `onto` and point `branch` to the commit; returns its id.

        changes: path -> SHA-256 of the new content, or None to remove the file.
        """
        with self.lock:
            repository = self.repositories.setdefault(name, Repository())
            parent = repository.find(onto) or ""
            files = {**repository.commits.get(parent, {}), **changes}
            tree = {path: oid for path, oid in sorted(files.items()) if oid is not None}
            content = json.dumps([parent, title, len(repository.commits), tree])
            commit = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
            repository.commits[commit] = tree
            repository.titles[commit] = title
            repository.refs[branch] = commit
            return commit

    def tags_of(self, name: str, commit: str) -> list[str]:
        """The tags on the card of a commit, and its library; reads the two simple notations for a list."""
        card = self.contents.get(self.repositories[name].commits[commit].get("README.md", ""), b"").decode()
        front = card.split("---\n")[1] if card.startswith("---\n") and card.count("---\n") > 1 else ""
        inline = re.search(r"^tags: *\[(.*)\]", front, re.MULTILINE)
        block = re.search(r"^tags:\n((?: *- .*\n)+)", front, re.MULTILINE)
        tags = inline[1].split(",") if inline else re.findall(r"- (.*)", block[1]) if block else []
        return [tag.strip() for tag in tags + re.findall(r"^library_name: (.*)", front, re.MULTILINE)]
