"""Download the scripts and styles of the documentation pages (`make vendor`).

`movies/assets/vendor.json` names each npm package with its version and its integrity hash. To
update one, change its version, replace its hash by what `npm view PACKAGE@VERSION dist.integrity`
prints, and run `make vendor`. Needs npm.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "movies/assets/vendor.json"
TARGET = ROOT / "movies/assets/vendor"


def main() -> None:
    """Replace the vendored files. Exits with a message if the hash of a download is wrong."""
    packages: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())
    files: dict[str, bytes] = {}
    for name, package in packages.items():
        files |= download(name, package)
    TARGET.mkdir(exist_ok=True)
    for old in TARGET.iterdir():
        old.unlink()
    for name, content in files.items():
        (TARGET / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes")
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in files.items()]
    (TARGET / "SHA256SUMS").write_text("\n".join(sums) + "\n")


def download(name: str, package: dict[str, Any]) -> dict[str, bytes]:
    """The wanted files of one npm package, by their versioned names."""
    version = package["version"]
    with tempfile.TemporaryDirectory() as directory:
        command = [
            "npm",
            "pack",
            "--silent",
            f"--pack-destination={directory}",
            f"{name}@{version}",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        (archive,) = Path(directory).iterdir()
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != package["integrity"]:
            sys.exit(f"{name}@{version} does not have the integrity hash of {MANIFEST.name}")
        with tarfile.open(archive) as content:
            return {
                target.replace(".", f"-{version}.", 1): patched(
                    content.extractfile(f"package/{source}").read(),  # type: ignore[union-attr]
                    package.get("replace", {}) if target.endswith(".js") else {},
                )
                for source, target in package["files"].items()
            }


def patched(content: bytes, replacements: dict[str, str]) -> bytes:
    """The content without addresses of other hosts that it would load from."""
    for old, new in replacements.items():
        if content.count(old.encode()) != 1:
            sys.exit(f"{old!r} is not in the script exactly once: review the new version")
        content = content.replace(old.encode(), new.encode())
    return content


if __name__ == "__main__":
    main()
