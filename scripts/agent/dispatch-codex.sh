#!/bin/bash -p
# Runs Codex on a task; as root it drops privileges to ubuntu first. --help prints the usage.
set -euo pipefail
here=$(/usr/bin/readlink -e -- "${BASH_SOURCE[0]}")
# As root (EUID 0), drops privileges to ubuntu before anything else.
# shellcheck source=lib/entry.sh
. "${here%/*}/lib/entry.sh"
enter "$here" "$@"
# shellcheck source=lib/run.sh
. "${here%/*}/lib/run.sh"
dispatch codex "$@"
