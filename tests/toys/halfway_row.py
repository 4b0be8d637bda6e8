"""What a new algorithm adds to algorithms.py: its row."""

from __future__ import annotations

from fewshot_sdk.algorithms import AlgorithmRow

ROW = AlgorithmRow(
    title="Halfway", order="first", contribution="tests.toys.halfway:halfway", outer="adam", step_size=0.01
)
