"""Cards show users' names literally: no label, column or path becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fewshot_sdk.config.labels import wrong_label
from fewshot_sdk.config.presets import preset
from fewshot_sdk.config.records import ClassifierConfig, Origin, Provenance, Trial
from fewshot_sdk.config.regression import NUMBER_PRESETS, Regression, RegressionConfig, RegressorConfig
from fewshot_sdk.storage.cards import classifier_card, regression_card, regressor_card

HOSTILE = (
    "<img src=x onerror=f()>", "[win](javascript:alert(1))", "![](https://x.example/a.png)", "`a", "``` b", "**c**",
    "_d_", "~~e~~", "a\n\n# heading", "a\r\n* item", "a\u2028b", "    indented", "- dash", "--- ", "+ plus", "12. one",
    "3) two", "# three", "> four", "&lt;b&gt; &#60;", "a\\", "a | b", "<https://x.example>", "[ref]: /x", "$x$", "|a|",
    "a*", "*a", "<!--", "-->", "=", "\x1b[31m", "trailing  ", "a\\|b", "<b\n>",
)  # fmt: skip
PLAIN = ("ant", "Käfer", "ice-cream", "2-door", "snake_case", "C++", "v1.5", "a (b)", "-5", "it's", "猫", "👨‍👩‍👧")
MADE = Provenance(
    command="fewshot x --output 'a`b\n# c'", seed=0, meta_steps_done=1, data_sha256="ab", seconds=1, versions={}
)
ORIGIN = Origin(name="in`it\n# x", sha256="cd", provenance=MADE)


def parsed(card: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.split("---\n", 2)[2])


def texts(card: str) -> Iterator[tuple[str, list[str]]]:
    """The text of each paragraph, heading or cell, and the types of its tokens."""
    for token in parsed(card):
        if token.type == "inline":
            parts = token.children or []
            yield "".join(part.content or "\n" * (part.type == "softbreak") for part in parts), [p.type for p in parts]


def shown(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text).strip()


def classifier(*labels: str) -> ClassifierConfig:
    recipe = preset("omniglot")
    trial = Trial(method="probe", init=labels[0], steps=0, accuracy=1, standard_error=0)
    return ClassifierConfig(
        format="", labels=labels, preprocessing=recipe.preprocessing, backbone=recipe.backbone,
        adaptation=recipe.adaptation, seed=0, initialization=ORIGIN, versions={}, comparison=(trial,),
    )  # fmt: skip


def regressor(*columns: str) -> RegressorConfig:
    sine = NUMBER_PRESETS["sine"]
    return RegressorConfig(
        format="", inputs=columns, output=columns[0], network=sine.network, adaptation=sine.adaptation, seed=0,
        initialization=ORIGIN, versions={}, points=2, before=1, after=1, held_out=1,
    )  # fmt: skip


def card_of(recipe: Regression) -> str:
    return regression_card(RegressionConfig(format="", recipe=recipe, provenance=MADE, evaluations=()))


@pytest.mark.parametrize("name", [name for name in (*HOSTILE, *PLAIN) if not wrong_label(name)])
def test_a_label_is_text_whatever_it_holds(name: str) -> None:
    card = classifier_card(classifier(name, "other"), 0)
    found = list(texts(card))
    kinds = {kind for text, parts in found if text == shown(name) for kind in parts}
    assert sum(text == shown(name) for text, _ in found) == 2  # in the list, and as a name in the comparison
    assert kinds <= {"text"}
    plain = [token.type for token in parsed(classifier_card(classifier("ant", "other"), 0))]
    assert [token.type for token in parsed(card)] == plain


@pytest.mark.parametrize("name", [*HOSTILE, *PLAIN])
def test_a_column_is_text_whatever_it_holds(name: str) -> None:
    recipe = NUMBER_PRESETS["sine"]
    for card, plain in (
        (regressor_card(regressor(name)), regressor_card(regressor("x"))),
        (card_of(recipe.replace(output=name)), card_of(recipe)),
    ):
        assert [token.type for token in parsed(card)] == [token.type for token in parsed(plain)]
        assert any(shown(name) in text and set(parts) <= {"text", "softbreak"} for text, parts in texts(card))


def test_an_ordinary_name_stands_in_the_file_as_it_is() -> None:
    plain = [name for name in PLAIN if "_" not in name]
    card = classifier_card(classifier(*plain), 0)
    assert all(f"\n* {name}\n" in card for name in plain)


def test_a_command_and_an_initializations_name_stay_in_their_code_spans() -> None:
    for card in (classifier_card(classifier("a", "b"), 0), regressor_card(regressor("x"))):
        spans = [part.content for token in parsed(card) for part in token.children or [] if part.type == "code_inline"]
        assert {"fewshot x --output 'a`b # c'", "in`it # x"} <= set(spans)


def test_a_command_stays_on_its_line() -> None:
    card = card_of(NUMBER_PRESETS["sine"])
    assert "\n    fewshot x --output 'a`b # c'\n" in card
