from __future__ import annotations

import re

from PIL import Image

from fewshot_sdk.runtime.scoring import score
from fewshot_sdk.web.scored import data_uri, render
from tests.runtime.test_scoring import FOUND, trial


def test_the_page_shows_the_result_and_the_wrong_pictures() -> None:
    found = score(FOUND, ["cat", "dog"])
    page = render("m on d", found, ["cat", "dog"], [data_uri(Image.new("L", (900, 30)))] * 5, ["a note"])
    assert "71.4 % right" in page
    assert "10 of 14 pictures; 95 % interval 45.4 to 88.3 %. 1 of them was called unknown." in page
    assert "Of 3 pictures of classes that the model does not know, which should be called unknown, 2 were" in page
    assert page.count('<img src="data:image/jpeg;base64,') == 5
    assert "taken for cat (80%)" in page
    assert "called unknown (nearest: cat 90%)" in page
    assert "a note" in page


def test_the_page_fetches_nothing_runs_nothing_and_escapes_names() -> None:
    evil = "<script>alert(1)</script>"
    found = score([trial(evil, "cat"), trial("cat", evil)], ["cat", evil])
    page = render(evil, found, ["cat", evil], ["", ""], [evil])
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=.(?!data:)", page)
    assert "default-src 'none'" in page
    assert page.count("the file is gone") == 2


def test_only_the_first_wrong_pictures_are_shown() -> None:
    page = render("t", score([trial("cat", "dog")] * 9, ["cat", "dog"]), ["cat", "dog"], [""] * 4, [])
    assert "The 4 most confident of 9" in page


def test_the_matrix_is_left_out_where_it_would_be_too_large() -> None:
    labels = [f"c{i}" for i in range(31)]
    page = render("t", score([trial("c0", "c1")], labels), labels, [""], [])
    assert "With more than 30 classes" in page
    assert '<table class="matrix">' not in page


def test_a_picture_on_the_page_is_small() -> None:
    assert len(data_uri(Image.effect_noise((3000, 2000), 90))) < 40_000
