"""Signatures of bundles, with keys like openssl's; no network is needed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fewshot_sdk import adapt, load, pull, push, save
from fewshot_sdk.artifacts.initialization import Initialization
from fewshot_sdk.errors import MissingExtra, SignatureError
from fewshot_sdk.storage.files import SIGNATURE, read_folder, write_folder
from fewshot_sdk.storage.signing import check, sign
from fewshot_sdk.testing.hub import LocalHub
from tests.conftest import Run

PLAIN = serialization.NoEncryption()
PKCS8, PEM = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM


def pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> tuple[Path, Path]:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    (folder / f"{name}.pem").write_bytes(private.private_bytes(PEM, PKCS8, PLAIN))
    public = private.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return folder / f"{name}.pem", folder / f"{name}.pub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub() as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return pair(tmp_path, "key")


@pytest.fixture
def signed(init: Initialization, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    files = init.files()
    return write_folder(tmp_path / "signed", {**files, SIGNATURE: sign(files, keys[0])})


def test_what_is_pushed_with_a_key_is_pulled_with_its_signature_and_verified_by_anybody(
    hub: LocalHub, run: Run, init: Initialization, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, copy = save(init, tmp_path / "init"), tmp_path / "copy"
    code, _, err = run("push", folder, "user/repo", "--sign", keys[0])
    assert (code, "signed by" in err) == (0, True), err
    assert not (folder / SIGNATURE).exists()
    assert run("pull", "user/repo", "--output", copy)[0] == 0
    assert (copy / SIGNATURE).is_file()
    assert load(copy).files() == load("user/repo").files() == init.files()

    code, out, err = run("verify", copy)
    assert (code, out) == (0, f"{copy}: 5 files match the manifest and load\n")
    assert (
        err
        == "it is signed (model.sig), but the signature was not checked; to check it, pass a public key with --key\n"
    )
    code, out, err = run("verify", copy, "--key", keys[1])
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f"{copy}: signed with the private key of {keys[1]}"
    words = ["verify", "key", str(copy), "--signature", str(copy / SIGNATURE), "--public_key", str(keys[1])]
    theirs = subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, check=False)
    assert theirs.returncode == 0, theirs.stderr

    again = push(copy, "user/again").source  # without a key the signature in the folder is pushed as it is
    assert (pull(again).folder / SIGNATURE).read_bytes() == (copy / SIGNATURE).read_bytes()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_curve_that_is_named_signs_and_only_these(
    init: Initialization, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    private, public = pair(tmp_path, curve.name, curve)
    files = init.files()
    check({**files, SIGNATURE: sign(files, private)}, public, tmp_path)


@pytest.mark.parametrize("fault", ["changed", "added", "removed", "foreign key", "missing", "tampered", "no signature"])
def test_what_does_not_fit_is_told_in_one_sentence(
    run: Run, signed: Path, keys: tuple[Path, Path], tmp_path: Path, fault: str
) -> None:
    """Whoever changes files can also change the manifest to match, but not the signature."""
    files, public, says = read_folder(signed), keys[1], ""
    if fault == "changed":
        files["model.safetensors"] += b" "
        says = "model.sig is not valid: model.safetensors is not what was signed"
    elif fault == "added":
        files["curve.png"] = b"x"
        says = "model.sig is not valid: curve.png is not what was signed"
    elif fault == "removed":
        del files["README.md"]
        says = "model.sig is not valid: README.md is not what was signed"
    elif fault == "foreign key":
        public = pair(tmp_path, "other")[1]
        says = f"model.sig was not made with the private half of {public}"
    elif fault == "missing":
        del files[SIGNATURE]
        says = "is not signed: it has no model.sig"
    elif fault == "tampered":
        whole = json.loads(files[SIGNATURE])
        payload = base64.b64decode(whole["dsseEnvelope"]["payload"]).replace(b"bundle", b"bumble")
        whole["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        files[SIGNATURE] = json.dumps(whole).encode()
        says = "model.sig is not valid: it was changed or damaged"
    else:
        files[SIGNATURE] = b"[" * 10_000
        says = "model.sig is not a signature"
    folder = write_folder(tmp_path / "faulty", files)
    code, out, err = run("verify", folder, "--key", public)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_a_flipped_bit_in_a_signature_is_never_taken_for_a_fit(signed: Path, keys: tuple[Path, Path]) -> None:
    """A flip outside the signed part (white space, the format's version) may be harmless."""
    files = read_folder(signed)
    good = files[SIGNATURE]
    covered = good.index(b'"payload"'), len(good) - 2
    for position in range(*covered, 41):
        flipped = bytearray(good)
        flipped[position] ^= 2
        with pytest.raises(SignatureError):
            check({**files, SIGNATURE: bytes(flipped)}, keys[1], signed)


def test_a_signature_that_leaves_a_file_out_is_refused(init: Initialization, keys: tuple[Path, Path]) -> None:
    """The OpenSSF's own command makes such a signature if told to ignore a file."""
    from fewshot_sdk.storage import signing

    files = init.files()
    with pytest.MonkeyPatch.context() as patch:
        config = signing._hashing().set_ignored_paths(paths=["model.safetensors"], ignore_git_paths=False)
        patch.setattr(signing, "_hashing", lambda: config)
        partial = sign(files, keys[0])
    with pytest.raises(SignatureError, match=r"does not cover model\.safetensors"):
        check({**files, SIGNATURE: partial}, keys[1], Path("x"))


def test_a_key_that_is_none_is_told_with_how_to_make_one(
    hub: LocalHub, run: Run, init: Initialization, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = save(init, tmp_path / "init")
    (tmp_path / "text").write_text("no key")
    rsa_key = rsa.generate_private_key(65537, 1024)
    (tmp_path / "rsa").write_bytes(rsa_key.private_bytes(PEM, PKCS8, PLAIN))
    _, _ = pair(tmp_path, "odd", ec.SECP256K1())
    secret = serialization.BestAvailableEncryption(b"x")
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, secret)
    (tmp_path / "locked").write_bytes(locked)
    for name, says in [
        ("nothing", "no such file or directory; expected a key"),
        ("text", "expected a private key in PEM"),
        ("key.pub", "expected a private key in PEM"),
        ("rsa", "on the curve P-256, P-384 or P-521"),
        ("odd.pem", "on the curve P-256, P-384 or P-521"),
        ("locked", "is encrypted; decrypt it"),
    ]:
        code, _, err = run("push", folder, "user/repo", "--sign", tmp_path / name)
        assert (code, len(err.splitlines())) == (1, 1), name
        assert says in err
        assert "openssl" in err
    assert hub.requests == [], "nothing is uploaded unsigned"
    code, _, err = run("verify", folder, "--key", keys[0])
    assert (code, "expected a public key in PEM" in err) == (1, True)


def test_a_card_that_is_written_anew_loses_its_signature_and_says_so(
    run: Run, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr("fewshot_sdk.data.glyphs.GLYPH_CLASSES", 40)
    code, _, err = run("evaluate", signed, "--tasks", 2, "--workers", 1, "--record")
    assert (code, "removed its model.sig, which no longer fits" in err) == (0, True)
    assert not (signed / SIGNATURE).exists()
    assert run("verify", signed)[0] == 0


def test_a_classifier_is_not_signed(
    run: Run, init: Initialization, drawings: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    model = save(adapt(init, drawings, steps=1, reject_rate=None), tmp_path / "model")
    code, _, err = run("verify", model, "--key", keys[1])
    assert (code, "is not signed" in err) == (1, True)


def test_without_the_extra_it_says_what_to_install(init: Initialization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fewshot-sdk\[signing\]'"):
        sign(init.files(), "key.pem")
