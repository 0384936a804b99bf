#!/usr/bin/env bash
# Installs Aider, if PROVIDER includes it, into a separate Python environment: wheels from the lock file only, verified by hash.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly place=$TOOLS_DIR/aider
if [[ $PROVIDER != all && $PROVIDER != aider ]]; then
  info "skipped: PROVIDER is $PROVIDER"
  exit 0
fi

# The environment has no pip of its own; the system's pip installs the packages into it.
python3 -m venv --clear --without-pip "$place"
packages=$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PIP_CERT=$NODE_EXTRA_CA_CERTS PIP_ROOT_USER_ACTION=ignore retry 3 python3 -m pip install --quiet --no-cache-dir --no-compile \
  --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --ignore-requires-python --upgrade \
  --target "$packages" -r /var/tmp/agent-ami/aider-requirements.txt

cat >"$place/bin/aider" <<PYTHON
#!$place/bin/python
import sys
from aider.main import main

sys.exit(main())
PYTHON
chmod -R a+rX "$place"
chmod 0755 "$place/bin/aider"
ln -sf "$place/bin/aider" /usr/local/bin/aider
# Run once as root to write the bytecode cache, because LOGIN_USER cannot write to this directory.
"$place/bin/aider" --version >/dev/null
info "aider $(as_user aider --version 2>/dev/null | tail -n 1)"
