from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from fewshot_cli.main import app
from fewshot_sdk.data.textures import drawn_texture, textured


def test_good_pictures_alone_make_an_inspector_that_every_verb_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture, other = drawn_texture(rng, 2), drawn_texture(rng, 1)
    for folder, of, n in (("good", texture, 3), ("test/good", texture, 2), ("test/bad", other, 2)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(textured(of, 96, rng)).save(tmp_path / folder / f"{i}.png")

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = json.loads(run("adapt", "--support", tmp_path / "good", "--output", tmp_path / "m", "--json"))
    assert (made["good"], made["bad"]) == (3, 0)
    assert "1 in 4" in made["promise"]
    run("export", tmp_path / "m", "--output", tmp_path / "m.onnx")
    bad = tmp_path / "test" / "bad" / "0.png"
    answers = [json.loads(run("predict", model, bad, "--json"))[0] for model in (tmp_path / "m", tmp_path / "m.onnx")]
    assert abs(answers[0]["score"] - answers[1]["score"]) < 1e-4
    assert answers[0]["good"] is answers[1]["good"] is False
    run("predict", tmp_path / "m.onnx", bad, "--explain", tmp_path / "why")
    assert (tmp_path / "why" / "0.png").is_file()
    assert json.loads(run("test", tmp_path / "m.onnx", tmp_path / "test", "--json"))["auroc"] == 1
    assert "inspector from 3 good pictures" in run("info", tmp_path / "m.onnx")
    extended = ("adapt", "--extend", tmp_path / "m", "--support", tmp_path / "test", "--one-class")
    both = json.loads(run(*extended, "--output", tmp_path / "n", "--json"))
    assert (both["good"], both["bad"]) == (5, 2)
