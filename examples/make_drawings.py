"""Draw examples/drawings and examples/new_drawings: 5 things by 3 and by 2 unsteady hands."""

import sys
from pathlib import Path

import numpy as np

from fewshot_sdk.data.glyphs import draw

ROUND = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 9)])
THINGS = {
    "fish": [
        0.5 + ROUND * (0.26, 0.16),
        [(0.74, 0.5), (0.9, 0.34), (0.9, 0.66), (0.74, 0.5)],
        [(0.36, 0.45), (0.37, 0.46)],
    ],
    "flower": [0.5 + ROUND * 0.08, *(0.5 + petal * 0.2 + ROUND * 0.11 for petal in ROUND[::2][:4])],
    "house": [
        [(0.25, 0.45), (0.25, 0.85), (0.75, 0.85), (0.75, 0.45), (0.25, 0.45), (0.5, 0.15), (0.75, 0.45)],
        [(0.45, 0.85), (0.45, 0.65), (0.57, 0.65), (0.57, 0.85)],
    ],
    "star": [[(0.5 + 0.38 * np.sin(a), 0.5 - 0.38 * np.cos(a)) for a in np.arange(6) * 0.8 * np.pi]],
    "tree": [
        [(0.5, 0.1), (0.3, 0.4), (0.4, 0.4), (0.22, 0.7), (0.78, 0.7), (0.6, 0.4), (0.7, 0.4), (0.5, 0.1)],
        [(0.46, 0.7), (0.46, 0.9), (0.55, 0.9), (0.55, 0.7)],
    ],
}

home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
for thing, (label, strokes) in enumerate(THINGS.items()):
    for hand in range(5):
        known = home / "drawings" / label / f"{hand + 1}.png"
        new = home / "new_drawings" / f"{label}{hand - 2}.png"
        path = known if hand < 3 else new
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = draw([np.asarray(s) for s in strokes], np.random.default_rng((thing, hand)), side=210)
        picture.convert("1").save(path)
