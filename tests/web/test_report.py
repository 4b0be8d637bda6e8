from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from fewshot_sdk.config.records import CurvePoint
from fewshot_sdk.config.verdict import Verdict
from fewshot_sdk.images.support import SupportSet
from fewshot_sdk.web.report import HeldOutAnswers, Report, Row, confusion, most_confused, reliability, render

LABELS = ("cat", "dog", "<script>alert(1)</script>")


def support(labels: tuple[str, ...] = LABELS, shots: int = 4) -> SupportSet:
    targets = np.repeat(np.arange(len(labels)), shots)
    images = np.random.default_rng(0).integers(0, 256, (len(targets), 12, 12, 1), np.uint8)
    return SupportSet(labels=labels, images=images, targets=targets)


def answers() -> HeldOutAnswers:
    """Of 12 held-out pictures one cat is taken for a dog, with little confidence."""
    targets = np.repeat(np.arange(3), 4)
    predicted = targets.copy()
    predicted[2] = 1
    probabilities = np.full((12, 3), 0.05)
    probabilities[np.arange(12), predicted] = 0.9
    probabilities[2] = 0.35, 0.4, 0.25
    return HeldOutAnswers(probabilities=probabilities, targets=targets, rows=np.arange(12))


@pytest.fixture
def report() -> Report:
    return Report(
        title="my model",
        support=support(),
        notes=["chose prototypes"],
        findings=[("warning", "a.png and b.png are the same picture")],
        comparison=[Row(method="prototypes", accuracy=91.7, error=8.3, log_loss=0.4, seconds=0.01, chosen=True)],
        held_out=answers(),
        verdict=Verdict(grade="usable", accuracy="about 9 of 10 right", mistakes="<b>cat</b> and dog are mixed up"),
        curve=tuple(CurvePoint(shots=k, accuracy=0.2 * k, low=0.1 * k, high=0.3 * k) for k in (1, 2, 3)),
        guessing=0.33,
        timings={"reading": 0.2},
        commands=["fewshot export my_model --output model.onnx"],
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_is_one_file_without_scripts(report: Report) -> None:
    page = render(report)
    found = Tags()
    found.feed(page)
    assert not {"script", "link", "iframe", "form", "object"} & set(found.tags)
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_it_shows_every_part(report: Report) -> None:
    page = render(report)
    for part in (
        "chose prototypes",
        "same picture",
        "91.7",
        "reading 0.2 s",
        "fewshot export my_model",
        "About 9 of 10 right",
    ):
        assert part in page
    assert page.count("<img") == 12 + 2  # the support set, and one confused pair
    assert "<b>cat</b> as <b>dog</b>, 1 picture<" in page


def test_what_was_not_measured_is_left_out(report: Report) -> None:
    page = render(Report(title="t", support=report.support, notes=[]))
    for part in ("doctor", "cross-validation", "confused", "trusted", "Next steps", "<svg"):
        assert part not in page


def test_a_perfect_cross_validation_confuses_nothing(report: Report) -> None:
    held_out = answers()
    right = replace(held_out, targets=held_out.probabilities.argmax(1))
    assert "No held-out picture was taken for another class" in render(replace(report, held_out=right))


def test_the_matrix_counts_each_answer_once(report: Report) -> None:
    matrix = confusion(answers(), 3)
    assert matrix.tolist() == [[3, 1, 0], [0, 4, 0], [0, 0, 4]]
    (pair,) = most_confused(answers(), report.support)
    assert (pair.truth, pair.predicted, pair.count) == ("cat", "dog", 1)


def test_reliability_is_accuracy_by_confidence() -> None:
    low, high = reliability(answers())
    assert [low.count, low.accuracy, low.confidence] == pytest.approx([1, 0.0, 0.4])
    assert [high.count, high.accuracy, high.confidence] == pytest.approx([11, 1.0, 0.9])


def test_many_classes_and_pictures_are_cut_short_and_counted() -> None:
    many = support(tuple(f"class {i}" for i in range(70)), shots=15)
    page = render(Report(title="t", support=many, notes=[]))
    assert page.count("<img") == 60 * 12
    assert "and 10 more classes" in page
    assert len(re.findall("and 3 more", page)) == 60
