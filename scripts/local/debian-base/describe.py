"""Prints base.json: the packages and files of a Debian base, and the tools that made it.

describe.py WORK STAGED    WORK contains packages.list, STAGED the finished files.
"""

import hashlib
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(*command: str) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.splitlines()[0].strip()


work, staged = Path(sys.argv[1]), Path(sys.argv[2])
packages = dict(line.split() for line in (work / "packages.list").read_text().splitlines())
kernel = next(name for name in packages if name.startswith("linux-image-") and name[12].isdigit())
base = {
    "schema": "agent-ami/base/1",
    "distribution": "debian",
    "version": "13",
    "codename": "trixie",
    "architecture": "amd64",
    "kernel": kernel.removeprefix("linux-image-"),
    "root_label": "agent-ami-root",
    "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    "files": {name: {"sha256": sha256(staged / name)} for name in ("disk.qcow2", "vmlinuz", "initrd.img")},
    "tools": {
        "mmdebstrap": first_line("mmdebstrap", "--version"),
        "mke2fs": first_line("mke2fs", "-V"),
        "qemu-img": first_line("qemu-img", "--version"),
    },
    "package_count": len(packages),
    "packages": packages,
}
json.dump(base, sys.stdout, indent=2)
print()
