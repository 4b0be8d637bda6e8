"""Changes to a finished classifier: other names, fewer classes, another threshold; as asked for, and as recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated
from unicodedata import normalize

from pydantic import Field

from fewshot_sdk.config.labels import wrong_label
from fewshot_sdk.config.settings import Config, Fraction, Listed
from fewshot_sdk.errors import ConfigError
from fewshot_sdk.tables import did_you_mean

FEWEST = 2  # classes


class Edit(Config):
    """One change of a classifier after training.

    renamed: old name -> new name; dropped: the classes that were taken out; threshold: see `ClassifierConfig`.
    sha256: of what was changed, the manifest.json of a folder or an .onnx file; empty until the change is made.
    """

    renamed: dict[str, str] = Field(default_factory=dict, exclude_if=lambda names: not names)
    dropped: Annotated[Listed[str], Field(exclude_if=lambda labels: not labels)] = ()
    threshold: Annotated[Fraction | None, Field(exclude_if=lambda found: found is None)] = None
    sha256: str = ""

    def __str__(self) -> str:
        parts = [f"renamed {old} to {new}" for old, new in self.renamed.items()]
        parts += [f"dropped {label}" for label in self.dropped]
        return ", ".join(parts + ([] if self.threshold is None else [f"threshold {self.threshold:g}"]))

    def applied(self, labels: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
        """Which of a classifier's labels stay, as indices, and their names afterwards; their order stays.

        All renamings happen at once, so that two classes can swap names. Raises ConfigError for a label that is not
        there, a name that is empty or taken, and if fewer than two classes remain or nothing changes.
        """
        if not str(self):
            raise ConfigError("nothing to change; give --rename OLD=NEW, --drop LABEL or --threshold P")
        for label in (*self.renamed, *self.dropped):
            if label not in labels:
                near = did_you_mean(label, dict.fromkeys(labels))
                raise ConfigError(f"no class {label!r}; the classes are {', '.join(labels)}{near}")
        if both := self.renamed.keys() & set(self.dropped):
            raise ConfigError(f"{min(both)} is to be renamed and dropped; leave out one of the two")
        for old, new in self.renamed.items():
            if wrong := wrong_label(new):
                raise ConfigError(f"{old}: expected {wrong}, found {new[:60]!r}")
        kept = [i for i, label in enumerate(labels) if label not in self.dropped]
        if len(kept) < FEWEST:
            raise ConfigError(f"{len(kept)} of {len(labels)} classes would remain, and a classifier needs {FEWEST}")
        after = tuple(self.renamed.get(labels[i], labels[i]) for i in kept)
        name, times = Counter(after).most_common(1)[0]
        if times > 1:
            raise ConfigError(
                f"there would be {times} classes {name}, and renaming merges none: put their pictures into one folder "
                "and adapt again"
            )
        return kept, after


def renamings(words: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Old name -> new name, from words such as `cat=dog`; a known label may contain equals signs itself.

    Raises ConfigError for a word without one, and for two new names of one class.
    """
    found: dict[str, str] = {}
    for word in words:
        splits = [(word[:i], word[i + 1 :]) for i, sign in enumerate(word) if sign == "="]
        if not splits:
            raise ConfigError(f"--rename: expected OLD=NEW, found {word!r}")
        old, new = next((split for split in splits if split[0] in labels), splits[0])
        if old in found:
            raise ConfigError(f"--rename: two new names for {old}, {found[old]} and {new}; leave out one")
        found[old] = normalize("NFC", new)
    return {old: new for old, new in found.items() if old != new}
