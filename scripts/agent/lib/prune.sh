# shellcheck shell=bash
# Deletes old directories of ended runs and unused mirrors. Sourced by run.sh; runs as the user, at most once an hour.

# prune: deletes runs and mirrors older than DISPATCH_KEEP, then the oldest ones above DISPATCH_KEEP_MIB.
prune() {
  local stamp=$DISPATCH_HOME/.pruned lock keep
  [[ ${DISPATCH_KEEP_MIB:-20480} =~ ^[0-9]{1,9}$ ]] || fail 64 "invalid DISPATCH_KEEP_MIB \"$DISPATCH_KEEP_MIB\"" "set it to a number of MiB"
  keep=$(seconds "${DISPATCH_KEEP:-30d}") || exit "$?"
  PRUNE_BEFORE=$(($(date +%s) - keep))
  [[ -d $DISPATCH_HOME/runs && -z $(find "$stamp" -mmin -60 2>/dev/null) ]] || return 0
  { exec {lock}>"$stamp.lock"; } 2>/dev/null || return 0
  if flock --nonblock "$lock"; then
    touch -- "$stamp"
    prune_oldest is_idle_run "$DISPATCH_HOME"/runs/[0-9]*Z-*
    prune_oldest is_idle_mirror "$DISPATCH_HOME"/repos/*.git
  fi
  exec {lock}>&-
}

# prune_oldest IDLE PATHS...: deletes directories for which the command IDLE succeeds.
prune_oldest() {
  local idle=$1 path at size total=0 count=0
  shift
  # Newest first, so that the oldest exceed the limit.
  while IFS=$'\t' read -r at path; do
    size=$(du -sm -- "$path" 2>/dev/null | cut -f 1)
    total=$((total + ${size:-0}))
    ((at < PRUNE_BEFORE || total > ${DISPATCH_KEEP_MIB:-20480})) || continue
    "$idle" "$path" || continue
    # An agent may have created directories that their owner cannot write.
    chmod -R u+rwX -- "$path" 2>/dev/null || :
    if rm -rf --one-file-system -- "$path"; then count=$((count + 1)) total=$((total - ${size:-0})); fi
  done < <(for path; do [[ ! -d $path || -L $path ]] || stat -c $'%Y\t%n' -- "$path"; done | sort -rn)
  ((count == 0)) || info "deleted $count of $# in ${1%/*}: unused for ${DISPATCH_KEEP:-30d}, or more than ${DISPATCH_KEEP_MIB:-20480} MiB"
}

# is_idle_run DIRECTORY: the run has ended, or its process no longer exists. A run without metadata is idle after a day.
is_idle_run() {
  local pid
  [[ ! -e $1/status ]] || return 0
  if pid=$(jq -e .pid "$1/metadata.json" 2>/dev/null); then ! kill -0 "$pid" 2>/dev/null; else [[ -z $(find "$1" -maxdepth 0 -mtime -1) ]]; fi
}

# is_idle_mirror DIRECTORY: deletes the mirror if no run holds its lock; holds the lock meanwhile.
is_idle_mirror() {
  local held
  exec {held}>"$1.lock"
  if ! flock --nonblock "$held"; then
    exec {held}>&-
    return 1
  fi
  mv -- "$1" "$1.old" && rm -rf --one-file-system -- "$1.old"
  exec {held}>&-
}
