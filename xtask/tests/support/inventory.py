"""Prints every file of an image's root file system, one JSON array per line: path, type, mode, uid, gid, capability, content.

unshare --mount --pid --fork --kill-child --mount-proc python3 inventory.py DISK DIR

DISK is a qcow2 file, DIR an empty directory. The content is a SHA-256, the target of a link or the numbers of a device. The disk is not changed.
"""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

disk, work = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)
raw, root = Path(work, "raw"), Path(work, "root")
raw.touch()
root.mkdir()
daemon = subprocess.Popen(
    [
        "qemu-storage-daemon",
        "--blockdev",
        f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,file.read-only=on,file.filename={disk}",
        "--export",
        f"type=fuse,id=disk,node-name=disk,mountpoint={raw},writable=off",
    ]
)
for _ in range(200):
    if raw.stat().st_size > 0:
        break
    time.sleep(0.05)
table = subprocess.run(["sfdisk", "--dump", str(raw)], check=True, text=True, stdout=subprocess.PIPE).stdout
start = max(int(number) for number in re.findall(r"start= *(\d+)", table))
subprocess.run(["mount", "-t", "ext4", "-o", f"ro,noload,loop,offset={start * 512}", str(raw), str(root)], check=True)


def capability(path: str) -> str:
    try:
        return os.getxattr(path, "security.capability", follow_symlinks=False).hex()
    except OSError:
        return ""


def content(path: str, info: os.stat_result) -> str:
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path)
    if stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
        return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return ""


def kind(mode: int) -> str:
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(stat.S_IFMT(mode), "special")


for directory, directories, files in os.walk(root):
    directories.sort()
    for name in sorted(directories + files):
        path = os.path.join(directory, name)
        info = os.lstat(path)
        shown = "/" + os.path.relpath(path, root)
        mode = oct(stat.S_IMODE(info.st_mode))
        print(json.dumps([shown, kind(info.st_mode), mode, info.st_uid, info.st_gid, capability(path), content(path, info)]))
subprocess.run(["umount", str(root)], check=True)
daemon.terminate()
