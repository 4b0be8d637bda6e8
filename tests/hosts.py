"""Ranks under torchrun, and "hosts" for them: network namespaces on this machine, connected by a cable of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

BOUND = 90  # seconds, against hanging
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")
WORDS = ("meta-train", "--output", "init", "--checkpoint-every", "2", "--evaluate-every", "10")
GLYPHS = (*WORDS, "--preset", "glyphs")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")]), **more}


def alone(folder: Path, *words: str) -> None:
    """The command in one process, in this folder."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.rank", *words]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, timeout=BOUND)


def two_ranks(
    folder: Path, *words: str, restarts: int = 0, job: str = "none", **more: str
) -> subprocess.CompletedProcess[str]:
    """The command as two ranks on this machine, in this folder; more: for the environment."""
    folder.mkdir(exist_ok=True)
    network = ("--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1")
    command = [*TORCHRUN, "2", *network, "--rdzv-id", job, "--max-restarts", str(restarts), "-m", "tests.rank", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(**more), check=False, capture_output=True, text=True, timeout=BOUND
    )


def bits(folder: Path) -> dict[str, bytes]:
    """The weights and the inner state of the result in this folder."""
    return {path.name: path.read_bytes() for path in sorted((folder / "init").glob("*.safetensors"))}


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def namespaces_work() -> bool:
    """Whether this process may make network namespaces with iproute2."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"fewshot-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=True)
    return made


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Two namespaces with a cable between them; each has a folder and a cache of its own."""

    names: tuple[str, str]
    folder: Path

    def start(self, number: int, *words: str, nodes: str = "2", **more: str) -> subprocess.Popen[bytes]:
        """torchrun with one rank on host 0 or 1, the first of which holds the rendezvous; it writes HOST.log."""
        its = self.folder_of(number)
        its.mkdir(exist_ok=True)
        network = ["--nnodes", nodes, "--rdzv-backend", "c10d", "--rdzv-endpoint", "10.231.7.1:29400"]
        network += ["--rdzv-conf", f"is_host={1 - number},join_timeout=100,last_call_timeout=2"]
        network += ["--rdzv-id", "job", "--local-addr", f"10.231.7.{number + 1}", "--max-restarts", "3"]
        with self.log(number).open("ab") as log:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.names[number], *TORCHRUN, "1", *network, "-m", "tests.rank", *words],
                cwd=its,
                env=environment(**{"FEWSHOT_CACHE": str(its / "cache"), **more}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, number: int) -> None:
        """Kill all processes on that host."""
        found = subprocess.run(["ip", "netns", "pids", self.names[number]], check=True, capture_output=True, text=True)
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def folder_of(self, number: int) -> Path:
        return self.folder / f"host{number}"

    def log(self, number: int) -> Path:
        return self.folder / f"host{number}.log"

    def said(self) -> str:
        return "\n".join(self.log(number).read_text() for number in (0, 1))

    def cable(self, *, plugged: bool) -> None:
        """Plug the cable in or pull it out."""
        _ip("-n", self.names[0], "link", "set", "cable", "up" if plugged else "down")


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts. Their namespaces, and nothing else of this machine's network, are made and removed."""
    names = (f"fewshot-{os.getpid()}-0", f"fewshot-{os.getpid()}-1")
    made: list[str] = []
    try:
        for name in names:
            _ip("netns", "add", name)
            made.append(name)
        _ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            _ip("-n", name, "addr", "add", f"10.231.7.{number}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "cable", "up")
        hosts = Hosts(names=names, folder=folder)
        try:
            yield hosts
        finally:
            for number in (0, 1):
                hosts.kill(number)
    finally:
        for name in made:
            _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=BOUND)
