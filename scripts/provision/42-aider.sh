#!/usr/bin/env bash
# Aider, if PROVIDER wants it, in a Python environment of its own: every package from the lock file, by its hash, none compiled.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

readonly place=$TOOLS_DIR/aider
if [[ $PROVIDER != all && $PROVIDER != aider ]]; then
  say "not asked for"
  exit 0
fi

# Without pip in it: the system's puts the packages there, and nothing there can install more.
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
# As root once: what it imports is kept compiled, which ubuntu could not do.
"$place/bin/aider" --version >/dev/null
say "aider $(runuser -u ubuntu -- env HOME=/home/ubuntu aider --version 2>/dev/null | tail -n 1)"
