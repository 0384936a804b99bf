# shellcheck shell=bash
# Downloads of files whose hashes are pinned. Sourced after common.sh; does not change the options of its caller.

# download URL SHA256 FILE: a wrong hash is an error, and the file is then deleted.
download() {
  retry 3 curl -fsSL --proto '=https' "$1" -o "$3" || die "$1 cannot be downloaded"
  sha256sum --quiet --check <<<"$2  $3" || { rm -f "$3"; die "$1 does not have the pinned hash"; }
}
