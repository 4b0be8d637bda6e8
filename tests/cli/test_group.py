from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fewshot_cli.main import app
from tests.conftest import Run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["meta-train", "--preset", "imagenet", "--output", "o"],
            "no preset 'imagenet'; the presets are omniglot-5way",
        ),
        (
            ["meta-train", "--preset", "omniglot", "--root", ".", "--output", "o"],
            "images_background.zip: no such file",
        ),
        (["evaluate", "nowhere"], "no initialization 'nowhere'"),
        (["adapt", "--support", "nowhere", "--output", "o"], "nowhere: there is no such folder"),
        (["export", "nowhere", "--output", "o.onnx"], "nowhere: no such folder"),
        (["predict", "nowhere.onnx", "p.png"], "nowhere.onnx: no such file or directory"),
    ],
)
def test_a_known_failure_is_one_line_and_exit_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert list(tmp_path.iterdir()) == []


TOO_LONG = "a" * 300  # no file system has such a name


@pytest.mark.parametrize(
    "words",
    [
        ["info", TOO_LONG],
        ["adapt", "--support", TOO_LONG, "--output", "o"],
        ["doctor", TOO_LONG],
        ["predict", TOO_LONG, "p.png"],
        ["predict", f"{TOO_LONG}/m.onnx", "p.png"],
        ["export", TOO_LONG, "--output", "o.onnx"],
        ["export-learner", TOO_LONG, "--output", "o.onnx"],
        ["verify", TOO_LONG],
        ["demo", "--init", TOO_LONG, "--output", "o"],
        ["push", TOO_LONG, "user/repo"],
        ["edit", TOO_LONG, "--threshold", "0.5"],
        ["test", TOO_LONG, "p"],
        ["evaluate", TOO_LONG],
        ["meta-train", "--preset", "glyphs", "--output", TOO_LONG],
        ["meta-train", "--preset", "omniglot", "--root", TOO_LONG, "--output", "o"],
    ],
)
def test_a_path_that_the_system_refuses_is_one_line_and_exit_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "name too long" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_is_one_line_and_exit_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr("fewshot_sdk.runtime.learners.learner_file", exhausted)
    code, _, err = run("demo", "--init", "omniglot", "--output", str(tmp_path / "o"))
    assert code == 1
    assert "not enough memory" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "text", "sentence"),
    [
        (errno.ENOENT, "No usable temporary directory found in ['/tmp']", "no temporary folder can be written to; set"),
        (errno.ENOSPC, "No space left on device", "no space left on device; free some there, or set TMPDIR"),
        (errno.EIO, "Input/output error", "the system refused something: input/output error; --debug shows where"),
    ],
)
def test_what_the_system_refuses_without_a_path_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str, sentence: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, text)

    monkeypatch.setattr("fewshot_sdk.runtime.learners.learner_file", refused)
    code, _, err = run("demo", "--init", "omniglot", "--output", str(tmp_path / "o"))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {sentence}")


@pytest.mark.parametrize(
    "words",
    [
        ["adapt"],
        ["adapt", "--support"],
        ["fly"],
        ["evaluate", "omniglot", "--tasks", "none"],
        ["evaluate", "omniglot", "--ways", "1"],
        ["evaluate", "omniglot", "--mode", "all", "--inductive"],
        ["evaluate", "omniglot", "--mode", "magic"],
        ["meta-train", "--preset", "glyphs", "--output", "o", "--meta-steps", "-1"],
        ["meta-train", "--preset", "glyphs", "--output", "o", "--workers", "0"],
        ["evaluate", "omniglot", "--workers", "many"],
        ["adapt", "--support", "s", "--output", "o", "--steps", "-1"],
        ["adapt", "--support", "s", "--output", "o", "--reject-rate", "1"],
        ["adapt", "--support", "s", "--output", "o", "--extend", "m", "--method", "probe"],
    ],
)
def test_wrong_usage_is_exit_2(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Error:" in err


@pytest.mark.parametrize(
    "words",
    [
        ("edit", "loop", "--rename", "a=b"),
        ("doctor", "loop"),
        ("info", "loop"),
        ("predict", "loop", "p.png"),
        ("export", "loop", "--output", "o.onnx"),
        ("meta-train", "--init", "loop", "--output", "o"),
        ("meta-train", "--init", "", "--output", "o"),
    ],
)
def test_a_link_to_itself_and_an_empty_name_are_one_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_debug_shows_where_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="there is no such folder"):
        app(["adapt", "--support", "nowhere", "--output", "o", "--debug"])


def test_ctrl_c_is_exit_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewshot_sdk.runtime.opening.open_predictor", interrupt)
    code, out, err = run("predict", "m.onnx", "p.png")
    assert (code, out, err) == (130, "", "interrupted\n")


def test_missing_torch_is_reported(run: Run, drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("fewshot_sdk.artifacts.opening.load_bundled", missing)
    code, _, err = run("adapt", "--support", drawings, "--output", "o")
    assert code == 1
    assert err == (
        "error: fewshot adapt needs PyTorch, which is not installed: pip install 'fewshot-sdk[torch]'; "
        "without it: fewshot adapt --engine onnx --init photo, or omniglot for drawings\n"
    )
