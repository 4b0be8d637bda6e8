"""Who made a bundle: signatures of its files in the OpenSSF's format, with an offline key pair.

model-signing does the cryptography; it reads folders, so the checked bytes are written to a temporary one.
Anybody can also check the signature with its own command: `model_signing verify key DIR`.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_sdk.errors import MissingExtra, SignatureError
from fewshot_sdk.storage.drafts import scratch
from fewshot_sdk.storage.files import MANIFEST, MAX_TEXT_BYTES, SIGNATURE, read_bounded, sha256

if TYPE_CHECKING:
    from model_signing import hashing

_MAKE = "`openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes one"
_SHOW = "`openssl ec -in key.pem -pubout -out key.pub` makes it from the private one"


def sign(files: Mapping[str, bytes], key: str | Path) -> bytes:
    """The signature of a bundle's files by a private key, to be stored as model.sig; see `check`.

    key: a file with an unencrypted private key in PEM, on the curve P-256, P-384 or P-521.
    Raises SignatureError, naming the file, if it is not such a key, MissingExtra without model-signing.
    """
    key = Path(key)
    _need()
    from model_signing import signing

    _read_key(key, private=True)
    with _laid_out(files) as folder:
        output = folder.parent / SIGNATURE
        config = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(_hashing())
        with contextlib.redirect_stdout(io.StringIO()):
            config.sign(folder, output)
        return output.read_bytes()


def check(files: Mapping[str, bytes], key: str | Path, where: Path) -> None:
    """Raises SignatureError, with the reason, unless a bundle's signature covers all its files but the manifest and
    was made with the private half of the public key.

    where: the bundle's name in messages. Raises MissingExtra without model-signing.
    """
    key = Path(key)
    _need()
    from model_signing import verifying

    _read_key(key, private=False)
    if SIGNATURE not in files:
        raise SignatureError(f"{where} is not signed: it has no {SIGNATURE}; ask who made it, or verify without --key")
    signature = files[SIGNATURE]
    signed = _signed(signature, where)
    with _laid_out(files) as folder:
        (folder.parent / SIGNATURE).write_bytes(signature)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about an older format
                verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
                verifier.verify(folder, folder.parent / SIGNATURE)
        except Exception as error:  # from several libraries, for a file that anybody may have written
            if str(error).startswith("Key mismatch"):
                raise SignatureError(
                    f"{where / SIGNATURE} was not made with the private half of {key}; "
                    "do not trust it unless you know whose key it was"
                ) from None
            found = {name: sha256(data) for name, data in files.items() if name not in (SIGNATURE, MANIFEST)}
            others = sorted(name for name in found.keys() | signed.keys() if found.get(name) != signed.get(name))
            what = f"{', '.join(others)} is not what was signed" if others else "it was changed or damaged"
            raise SignatureError(
                f"{where / SIGNATURE} is not valid: {what}; do not trust this folder, fetch it again"
            ) from None
    if unsigned := sorted(files.keys() - signed.keys() - {SIGNATURE, MANIFEST}):
        raise SignatureError(f"{where / SIGNATURE} does not cover {', '.join(unsigned)}; do not trust this folder")


def _need() -> None:
    try:
        import model_signing  # noqa: F401
    except ImportError:
        raise MissingExtra("signatures need model-signing; pip install 'fewshot-sdk[signing]'") from None


def _hashing() -> hashing.Config:
    """Hash all files, git's own included, except the signature and the manifest, which lists the signature."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[MANIFEST, SIGNATURE], ignore_git_paths=False)


@contextmanager
def _laid_out(files: Mapping[str, bytes]) -> Iterator[Path]:
    with scratch() as home:
        folder = home / "bundle"
        folder.mkdir()
        for name, data in files.items():
            if name not in (SIGNATURE, MANIFEST):
                (folder / name).write_bytes(data)
        yield folder


def _signed(signature: bytes, where: Path) -> dict[str, str]:
    """The file names and SHA-256 that a signature claims to cover; not to be trusted before it is verified."""
    try:
        if len(signature) > MAX_TEXT_BYTES:
            raise ValueError
        envelope = json.loads(signature)["dsseEnvelope"]
        resources = json.loads(base64.b64decode(envelope["payload"], validate=True))["predicate"]["resources"]
        return {str(entry["name"]): str(entry["digest"]) for entry in resources}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError(f"{where / SIGNATURE} is not a signature; fetch the folder again") from None


def _read_key(key: Path, *, private: bool) -> None:
    """Raises SignatureError unless the file holds a key of the needed kind."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    advice = _MAKE if private else _SHOW
    data = read_bounded(key, MAX_TEXT_BYTES, SignatureError, f"expected a key, and {advice}")
    kind = "private" if private else "public"
    try:
        found = serialization.load_pem_private_key(data, None) if private else serialization.load_pem_public_key(data)
    except TypeError:
        raise SignatureError(
            f"{key} is encrypted; decrypt it while you use it (`openssl ec -in {key} -out plain.pem`)"
        ) from None
    except Exception:  # from several libraries, for a file that may be anything
        raise SignatureError(f"{key}: expected a {kind} key in PEM; {advice}") from None
    if not isinstance(found, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)) or found.curve.name not in (
        "secp256r1", "secp384r1", "secp521r1",
    ):  # fmt: skip
        raise SignatureError(f"{key}: expected a {kind} key on the curve P-256, P-384 or P-521; {advice}")
