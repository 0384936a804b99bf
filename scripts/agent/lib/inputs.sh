# shellcheck shell=bash
# What a run is given besides its options: times, the env file, a task from a file. Sourced.

# seconds TIME: 90s, 30m, 2h, or a number of seconds.
seconds() {
  [[ $1 =~ ^([0-9]{1,7})([smhd]?)$ ]] || fail 64 "$1 is no time" "write it as 90s, 30m or 2h"
  local unit=1
  case ${BASH_REMATCH[2]} in m) unit=60 ;; h) unit=3600 ;; d) unit=86400 ;; esac
  printf '%s\n' "$((10#${BASH_REMATCH[1]} * unit))"
}

# load_env: variables of the env file, which is a shell script of the user's. What root passed on wins.
load_env() {
  local file=$DISPATCH_HOME/.env name given
  [[ -e $file ]] || return 0
  ((EUID != 0)) || fail 77 "the env file is not read as root" "this is a mistake in the scripts"
  for name in "${ROOTS[@]}"; do unset "$name"; done
  given=$(for name in "${PASSES[@]}"; do [[ -z ${!name:-} ]] || printf 'export %s=%q\n' "$name" "${!name}"; done)
  bash -n -- "$file" 2>/dev/null || fail 78 "$file is no shell script that can be read" "write NAME=value lines; bash -n prints more"
  set -a
  # shellcheck disable=SC1090
  . "$file" || fail 78 "$file ended with $?" "write NAME=value lines"
  set +a
  for name in "${ROOTS[@]}"; do
    [[ ! -v $name ]] || fail 78 "$file sets $name, which comes too late there" "set it in the environment in which root calls"
  done
  eval "$given"
}

# One argument of a program has at most 128 KiB (execve(2)), and some agents' begins with an option's name.
readonly TASK_BYTES=131000

# read_task: OPT_TASK from OPT_TASK_FILE, byte for byte.
read_task() {
  local file=$OPT_TASK_FILE bytes LC_ALL=C
  [[ -n $file ]] || return 0
  # A pipe that root made cannot be opened again by name.
  if [[ $file == - ]]; then exec {bytes}<&0; else { exec {bytes}<"$file"; } 2>/dev/null; fi || fail 66 "$(id -un) cannot read the task file $OPT_TASK_FILE" "--task-file - reads standard input"
  # bash holds no NUL: what comes before the first one is the task, and nothing may come after it.
  if IFS= read -r -d '' -n "$((TASK_BYTES + 1))" OPT_TASK <&"$bytes"; then
    ((${#OPT_TASK} > TASK_BYTES)) || fail 64 "the task in $OPT_TASK_FILE holds a NUL byte" "a task is text"
    fail 64 "the task in $OPT_TASK_FILE has more than $TASK_BYTES bytes" "put it into a file of the repository and name that in the task"
  fi
  exec {bytes}<&-
  [[ -n $OPT_TASK ]] || fail 64 "no task in $OPT_TASK_FILE" "it is empty"
}
