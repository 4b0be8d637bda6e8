"""The licences of what this package needs, from the metadata of what is installed; known weaknesses: `make audit`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

# What asks for no more than naming the authors, and file-wise licences (MPL) for packages that we do not change.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LLVM-exception", "MIT",
    "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
OTHER_WORDS = {"3-Clause BSD License": "BSD-3-Clause", "Apache 2.0": "Apache-2.0"}
UNSAID = {"sigstore-models": "MIT"}  # its LICENSE file says so, its metadata do not


def needed(name: str = "fewshot-sdk", seen: set[str] | None = None) -> Iterator[Distribution]:
    """The installed packages that this one needs, with all of its extras, and those that they need."""
    seen = set() if seen is None else seen
    for text in requires(name) or ():
        requirement = Requirement(text)
        extras = ["", *(requirement.extras or ()), *(("serve", "torch", "timm", "signing") if not seen else ())]
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": it}) for it in extras)
        key = canonicalize_name(requirement.name)
        if not (wanted or name == "fewshot-sdk") or key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(key)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        if key != "fewshot-sdk" and not key.startswith(("nvidia-", "cuda-", "triton")):  # PyTorch's own choice of parts
            yield found
        yield from needed(key, seen)


def licences(found: Distribution) -> set[str]:
    """The licences that a package names, as SPDX calls them; empty if it names none."""
    name = canonicalize_name(found.metadata["Name"])
    expression = found.metadata["License-Expression"] or OTHER_WORDS.get(found.metadata["License"] or "")
    if not expression:
        classes = [line for line in found.metadata.get_all("Classifier") or [] if line.startswith("License :: OSI")]
        named = {CLASSIFIERS.get(line.rpartition(" :: ")[2], line) for line in classes}
        if named:
            return named
        expression = found.metadata["License"] or UNSAID.get(name, "")
    return set(re.findall(r"[A-Za-z0-9.+-]+", expression)) - {"AND", "OR", "WITH"}


PACKAGES = {canonicalize_name(found.metadata["Name"]): found for found in needed()}


def test_the_packages_are_found() -> None:
    assert {"numpy", "onnxruntime", "pydantic", "starlette", "h11"} <= PACKAGES.keys()


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_package_may_be_used_by_its_licence(name: NormalizedName) -> None:
    found = licences(PACKAGES[name])
    assert found, f"{name} names no licence"
    assert found <= ALLOWED, f"{name}: {sorted(found - ALLOWED)}"
