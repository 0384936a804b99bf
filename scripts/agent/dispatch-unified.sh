#!/bin/bash -p
# Runs several agents on one task concurrently and prints a summary; as root it drops privileges to ubuntu first. --help prints the usage.
set -euo pipefail
here=$(/usr/bin/readlink -e -- "${BASH_SOURCE[0]}")
# As root (EUID 0), drops privileges to ubuntu before anything else.
# shellcheck source=lib/entry.sh
. "${here%/*}/lib/entry.sh"
# As root without isolation, `enter` replaces this process (exec), so that signals to its pid reach the process that starts the agents. With
# DISPATCH_ISOLATE=1, isolate.sh passes them on.
enter "$here" "$@"
# shellcheck source=lib/unified.sh
. "${here%/*}/lib/unified.sh"
dispatch_all "${here%/*}" "$@"
