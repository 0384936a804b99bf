# shellcheck shell=bash
# Inputs of a run besides its options: times, the env file, a task from a file. Sourced.

# seconds TIME: prints TIME (90s, 30m, 2h, 1d, or a number of seconds) in seconds.
seconds() {
  [[ $1 =~ ^([0-9]{1,7})([smhd]?)$ ]] || fail 64 "invalid time $1" "write 90s, 30m or 2h"
  local unit=1
  case ${BASH_REMATCH[2]} in m) unit=60 ;; h) unit=3600 ;; d) unit=86400 ;; esac
  printf '%s\n' "$((10#${BASH_REMATCH[1]} * unit))"
}

# load_env: sources the env file, a shell script of the user. Variables that root passed on take precedence.
load_env() {
  local file=$DISPATCH_HOME/.env name given
  [[ -e $file ]] || return 0
  ((EUID != 0)) || fail 77 "the env file must not be read as root" "report this bug of the dispatch scripts"
  for name in "${ROOTS[@]}"; do unset "$name"; done
  given=$(for name in "${PASSES[@]}"; do [[ -z ${!name:-} ]] || printf 'export %s=%q\n' "$name" "${!name}"; done)
  bash -n -- "$file" 2>/dev/null || fail 78 "$file is unreadable or not a valid shell script" "write NAME=value lines; bash -n $file prints the error"
  set -a
  # shellcheck disable=SC1090
  . "$file" || fail 78 "$file exited with $?" "write NAME=value lines"
  set +a
  for name in "${ROOTS[@]}"; do
    [[ ! -v $name ]] || fail 78 "$file sets $name, which only root's environment can set" "set it in the environment of the root command"
  done
  eval "$given"
}

# An argument has at most 128 KiB (execve(2)), which for some agents includes the name of an option.
readonly TASK_BYTES=131000

# read_task: reads OPT_TASK from OPT_TASK_FILE, byte for byte.
read_task() {
  local file=$OPT_TASK_FILE bytes LC_ALL=C
  [[ -n $file ]] || return 0
  # Duplicate the descriptor, because the user cannot open a pipe of root by name.
  if [[ $file == - ]]; then exec {bytes}<&0; else { exec {bytes}<"$file"; } 2>/dev/null; fi || fail 66 "$(id -un) cannot read the task file $OPT_TASK_FILE" "--task-file - reads standard input"
  # bash variables cannot contain NUL: read up to the first NUL, and refuse a file that has one.
  if IFS= read -r -d '' -n "$((TASK_BYTES + 1))" OPT_TASK <&"$bytes"; then
    ((${#OPT_TASK} > TASK_BYTES)) || fail 64 "the task in $OPT_TASK_FILE contains a NUL byte" "write the task as text"
    fail 64 "the task in $OPT_TASK_FILE has more than $TASK_BYTES bytes" "move the text to a file in the repository and refer to it in the task"
  fi
  exec {bytes}<&-
  [[ -n $OPT_TASK ]] || fail 64 "the task file $OPT_TASK_FILE is empty" "write the task into it"
}
