"""What a new data set adds to config/datasets.py: its row."""

from __future__ import annotations

from fewshot_sdk.config.datasets import DatasetRow

ROW = DatasetRow(
    splits=("drawn",),
    read="tests.toys.stripes:read",
    about="stripes of many directions, nobody's",
    suits="expect it to tell stripes apart",
)
