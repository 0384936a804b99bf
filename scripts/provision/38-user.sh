#!/usr/bin/env bash
# Creates LOGIN_USER, the account that people and agents use: no password, and no sudo before 85-login.sh has effect on an instance.
set -euo pipefail
# shellcheck source=../lib/common.sh
. /var/tmp/agent-ami/lib/common.sh

id -u "$LOGIN_USER" >/dev/null 2>&1 || useradd --create-home --home-dir "$LOGIN_HOME" --shell /bin/bash --user-group "$LOGIN_USER"
usermod --lock "$LOGIN_USER"
# The members of adm can read the journal (systemd-journald.service(8)).
usermod --append --groups adm "$LOGIN_USER"

[[ $(as_user id -un) == "$LOGIN_USER" && $(id -u "$LOGIN_USER") != 0 ]] || die "$LOGIN_USER is not an unprivileged account"
# Without a password the field consists of marks only (shadow(5)); usermod --lock puts one before a password.
readonly none='^[!*]+$'
[[ $(getent shadow "$LOGIN_USER" | cut -d : -f 2) =~ $none ]] || die "$LOGIN_USER has a password"
info "$LOGIN_USER has the uid $(id -u "$LOGIN_USER") and the groups $(id -nG "$LOGIN_USER")"
