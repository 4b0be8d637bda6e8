"""The programs in other languages: those whose tools are here are built, and classify as the command does.

`make test-samples` runs the slow ones; it says what they need.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_sdk.config.edits import Edit
from fewshot_sdk.images.preprocessing import read_image
from fewshot_sdk.runtime.editing import edited_file
from fewshot_sdk.storage.files import read_folder, write_folder
from fewshot_sdk.web.pages import deployment, samples
from tests.conftest import REPOSITORY, Run
from tests.images.test_entrances import SEEN, Doors, doors, expected  # noqa: F401

NPM = REPOSITORY / "tests" / "samples" / "node_modules"
PLUGINS = NPM / "com.github.asus4.onnxruntime" / "Plugins"
JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("json-latest", "kotlin-stdlib", "kotlin-stdlib-jdk7")]
PROGRAMS = {
    "cpp/classify.cpp", "csharp/Program.cs", "javascript/classify.js", "kotlin/Classify.kt", "kotlin/Exif.kt",
    "rust/classify.rs", "swift/classify/main.swift",
}  # fmt: skip
CMYK = {"jpeg cmyk", "jpeg cmyk without adobe", "tiff cmyk"}
BMP = {"bmp 1 bit", "bmp 8 bits", "bmp", "bmp 32 bits"}
AVIF, HEIC = {"avif", "avif turned"}, {"heic", "heic turned"}
WEBP = {"webp", "webp lossless", "webp alpha"}


@dataclass(frozen=True, kw_only=True)
class Language:
    """What a program says it cannot read, and what another decoder reads a little, or a BMP's alpha, otherwise."""

    refuses: set[str]
    apart: set[str] = frozenset()  # type: ignore[assignment]


LANGUAGES = {
    "cpp": Language(refuses=CMYK, apart={*AVIF, *HEIC, "bmp 32 bits"}),
    "javascript": Language(refuses=CMYK | BMP | HEIC, apart=AVIF),
    "kotlin": Language(refuses=CMYK | WEBP | AVIF | HEIC),
}


def needs(*tools: str, files: tuple[Path, ...] = ()) -> None:
    """Skip the test unless these programs and files are here."""
    missing = [tool for tool in tools if shutil.which(tool) is None] + [
        str(path) for path in files if not path.exists()
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not here; see make test-samples")


def ran(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def test_every_program_has_under_60_lines_and_says_how_it_is_run() -> None:
    contents = {name.removeprefix("samples/"): data.decode() for name, data in samples().items()}
    assert contents.keys() >= PROGRAMS
    for name in PROGRAMS:
        assert contents[name].count("\n") < 60, name
        assert len(max(contents[name].splitlines(), key=len)) <= 120, name
        assert name == "kotlin/Exif.kt" or re.search(r"\.\./\.\./model\.onnx PICTURE\.\.\.", contents[name]), name
    assert set(re.findall(r"^\| `(\w+)`", contents["README.md"], re.MULTILINE)) == {
        name.partition("/")[0] for name in PROGRAMS
    }


def test_a_bundle_holds_them_and_keeps_them_when_it_is_edited(doors: Doors, run: Run, tmp_path: Path) -> None:
    bundle = write_folder(tmp_path / "bundle", deployment(doors.onnx.read_bytes(), "m"))
    assert read_folder(bundle).keys() >= samples().keys()
    (bundle / "samples" / "cpp" / "build").mkdir()
    (bundle / "samples" / "cpp" / "build" / "classify").write_text("the user's own")
    code, _, err = run("edit", bundle, "--rename", "ant=emmet")
    assert code == 0, err
    files = read_folder(bundle)
    assert {name: files[name] for name in samples()} == samples()
    assert (bundle / "samples" / "cpp" / "build" / "classify").read_text() == "the user's own"
    assert b"emmet" in files["model.onnx"]


def _by_path(output: str) -> dict[str, list[str]]:
    return {line.rsplit("  ", 2)[0]: line.rsplit("  ", 2)[1:] for line in output.splitlines()}


def compare(
    language: str,
    output: str,
    errors: str,
    doors: Doors,
    expected: dict[str, NDArray[np.float64]],
) -> None:
    """Raises AssertionError unless each picture that the language reads got its label and probability."""
    answers = _by_path(output)
    limits = LANGUAGES[language]
    for name in SEEN:
        path, wanted = str(doors.files[name]), expected[name]
        if name in limits.refuses:
            assert path not in answers, name
            assert f"{path} cannot be read: " in errors, name
            continue
        label, probability = answers[path]
        assert label == doors.predictor.labels[int(wanted.argmax())], name
        assert float(probability) == pytest.approx(wanted.max(), abs=0.1 if name in limits.apart else 1e-4), name
    assert str(doors.files["half a jpeg"]) not in answers


@pytest.fixture(scope="module")
def strict(doors: Doors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a threshold that no picture reaches."""
    path = tmp_path_factory.mktemp("strict") / "model.onnx"
    path.write_bytes(edited_file(doors.onnx.read_bytes(), Edit(threshold=0.999)))
    return path


@pytest.mark.slow
def test_the_cpp_program_gives_the_same_answers(
    doors: Doors,
    expected: dict[str, NDArray[np.float64]],
    strict: Path,
    tmp_path: Path,
) -> None:
    needs("cmake", "c++", "pkg-config", files=(PLUGINS,))
    if subprocess.run(["pkg-config", "--exists", "vips-cpp"], check=False).returncode:
        pytest.skip("libvips-dev: not here; see make test-samples")
    library, (headers, *_) = tmp_path / "onnxruntime", PLUGINS.glob("iOS~/*/*/*/Versions/A/Headers")
    (library / "lib").mkdir(parents=True)
    (library / "include").symlink_to(headers)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (library / "lib" / name).symlink_to(PLUGINS / "Linux" / "x64" / "libonnxruntime.so")
    build = tmp_path / "build"
    ran("cmake", "-B", build, f"-DONNXRUNTIME={library}", cwd=doors.bundle / "samples" / "cpp")
    ran("cmake", "--build", build)
    done = ran(build / "classify", doors.onnx, *doors.files.values())
    compare("cpp", done.stdout, done.stderr, doors, expected)
    assert "  unknown  " in ran(build / "classify", strict, doors.files["png"]).stdout


@pytest.mark.slow
def test_the_javascript_program_gives_the_same_answers(
    doors: Doors,
    expected: dict[str, NDArray[np.float64]],
    strict: Path,
) -> None:
    needs("node", files=(NPM / "onnxruntime-node", NPM / "sharp"))
    folder = doors.bundle / "samples" / "javascript"
    (folder / "node_modules").symlink_to(NPM)
    done = ran("node", "classify.js", doors.onnx, *doors.files.values(), cwd=folder)
    compare("javascript", done.stdout, done.stderr, doors, expected)
    assert "  unknown  " in ran("node", "classify.js", strict, doors.files["png"], cwd=folder).stdout


@pytest.fixture(scope="module")
def compiled(doors: Doors, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of the Kotlin program, compiled with onnxruntime's Java interface."""
    needs("kotlinc", "java", files=(PLUGINS, *JARS))
    out = tmp_path_factory.mktemp("kotlin")
    with zipfile.ZipFile(PLUGINS / "Android" / "onnxruntime.aar") as archive:
        archive.extract("classes.jar", out)
    path = ":".join(map(str, [out / "classes.jar", *JARS]))
    programs = sorted((doors.bundle / "samples" / "kotlin").glob("*.kt"))
    ran("kotlinc", "-jvm-target", "1.8", "-cp", path, *programs, "-d", out / "classes")
    return f"{path}:{out / 'classes'}"


@pytest.mark.slow
def test_the_kotlin_program_compiles_and_reads_the_same_pixels(compiled: str, doors: Doors) -> None:
    paths = {name: doors.files[name] for name in SEEN}
    done = ran("java", "-cp", compiled, REPOSITORY / "tests" / "samples" / "Pixels.java", *paths.values())
    sizes = _by_path(done.stdout)
    for name, path in paths.items():
        if name in LANGUAGES["kotlin"].refuses:
            assert f"{path} cannot be read: " in done.stderr, name
            continue
        pixels = np.frombuffer(Path(f"{path}.rgb").read_bytes(), np.uint8)
        wanted = np.asarray(read_image(path).convert("RGB"))
        assert [int(side) for side in sizes[str(path)]] == list(wanted.shape[:2]), name
        np.testing.assert_array_equal(pixels.reshape(wanted.shape), wanted, err_msg=name)


@pytest.mark.slow
def test_the_rust_program_is_well_formed() -> None:
    needs("rustfmt")
    program = REPOSITORY / "fewshot_sdk" / "web" / "assets" / "samples" / "rust" / "classify.rs"
    ran("rustfmt", "--check", "--edition", "2021", "--config", "max_width=120,use_small_heuristics=Max", program)


def test_the_npm_packages_are_those_that_the_program_names() -> None:
    ours = json.loads((REPOSITORY / "tests" / "samples" / "package.json").read_text())["dependencies"]
    theirs = json.loads(samples()["samples/javascript/package.json"])["dependencies"]
    for name, versions in theirs.items():
        least, found = (tuple(map(int, each.lstrip("^").split("."))) for each in (versions, ours[name]))
        assert found[:1] == least[:1]
        assert found >= least
