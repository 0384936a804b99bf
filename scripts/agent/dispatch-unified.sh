#!/bin/bash -p
# Runs several agents on one task at once and sums up, as ubuntu whoever calls; --help tells how.
set -euo pipefail
here=$(/usr/bin/readlink -e -- "${BASH_SOURCE[0]}")
# As root (EUID 0) it becomes ubuntu here, before anything else.
# shellcheck source=lib/entry.sh
. "${here%/*}/lib/entry.sh"
# In place of root's process, too: there are no children yet that it could lose, and who signals it signals the one that has them.
enter "$here" "$@"
# shellcheck source=lib/unified.sh
. "${here%/*}/lib/unified.sh"
dispatch_all "${here%/*}" "$@"
