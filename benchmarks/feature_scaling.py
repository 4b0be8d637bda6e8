"""How features are scaled before a probe, and what `adapt_features` chooses, by accuracy on rows set aside.

    python -m benchmarks.feature_scaling [FILE...] [--photos FOLDER...] [--shots N...] [--splits N] [--seed N] [--json]

FILE: labelled features in any form that `fewshot adapt --support` takes; without any, scikit-learn's small tables.
--photos: folders or zips of class folders, of which `photo` computes the features. In each split, `--shots` rows of
each class are drawn to learn from, and up to 20 others of each are classified. Prints a Markdown row for each table
and number of shots: the mean accuracy in percent with each scaling, and with the one that cross-validation chooses.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fewshot_sdk import adapt_features, load
from fewshot_sdk.adaptation.methods import Adapter, Strategy
from fewshot_sdk.artifacts.embeddings import for_rows
from fewshot_sdk.config.backbones import Embeddings
from fewshot_sdk.engine.forward import Forward
from fewshot_sdk.engine.inner_loop import one_thread
from fewshot_sdk.images.features import FeatureTable, as_images, from_arrays, read_features
from fewshot_sdk.images.support import read_support

WAYS = {"as they are": ("none", 0), "scaled alike": ("whole", 0), "each column": ("whole", 1)}
QUERIES = 20


def main() -> None:
    """Measure each table, and print a row for each number of shots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--photos", nargs="*", type=Path, default=[])
    parser.add_argument("--shots", nargs="*", type=int, default=[2, 5])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for name, table in _tables(given.files, given.photos):
        for shots in given.shots:
            found = [measured(table, shots, np.random.default_rng((given.seed, i))) for i in range(given.splits)]
            means = {way: float(100 * np.mean([each[way] for each in found])) for way in found[0]}
            rows.append({"features": name, "shots": shots, **means})
            if not given.json:
                print(
                    "| " + " | ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in rows[-1].values()) + " |"
                )
    if given.json:
        print(json.dumps(rows))


def _tables(files: list[Path], photos: list[Path]) -> Iterator[tuple[str, FeatureTable]]:
    if not files and not photos:
        from sklearn import datasets

        for name in ("iris", "wine", "breast_cancer", "digits"):
            data = getattr(datasets, f"load_{name}")()
            yield name, from_arrays(data.data, data.target.tolist())
    yield from ((path.stem, read_features(path)) for path in files)
    if photos:
        photo = load("photo")
    for path in photos:
        support = read_support(path, photo.recipe.preprocessing)
        with one_thread():
            features = Adapter(photo, len(support.labels)).features(torch.from_numpy(support.images))[0][0].numpy()
        yield path.stem, from_arrays(features, [support.labels[target] for target in support.targets])


def measured(table: FeatureTable, shots: int, rng: np.random.Generator) -> dict[str, float]:
    """The accuracy of each way in one split, as a share."""
    labels = np.array(table.labels)
    each = [rng.permutation(np.flatnonzero(labels == label)) for label in sorted(set(table.labels))]
    train = np.concatenate([rows[:shots] for rows in each])
    queries = np.concatenate([rows[shots : shots + QUERIES] for rows in each])
    drawn = from_arrays(table.features[train], labels[train].tolist())
    support, found = drawn.support(), dict[str, float]()
    truth = np.array([support.labels.index(label) for label in labels[queries]])
    images, targets = torch.from_numpy(support.images), torch.from_numpy(support.targets)
    asked = torch.from_numpy(as_images(table.features[queries]))
    for way, (scaling, features) in WAYS.items():
        init = for_rows(support, drawn.rows, Embeddings(scaling=scaling))  # type: ignore[arg-type]
        with one_thread():
            adapter, probe = Adapter(init, len(support.labels)), Strategy(method="probe", features=features)
            ((_, params),) = adapter.learn(images, targets, [probe], 0)
            logits = Forward(adapter.network_of(probe), params).apart(asked, images)
        found[way] = float((logits.argmax(1).numpy() == truth).mean())
    chosen = adapt_features(table.features[train], labels[train].tolist(), reject_rate=None)
    found["adapt"] = float((chosen.probabilities(as_images(table.features[queries])).argmax(1) == truth).mean())
    return found


if __name__ == "__main__":
    main()
