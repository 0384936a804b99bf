# shellcheck shell=bash
# As root, drops privileges to the unprivileged user before reading any file that this user can write, and does nothing else as root.
# Sourced first by every dispatch script; does not change the options of its caller.

# Set if this run is in a transient unit; never inherited from the caller.
ISOLATED=""

# info TEXT: prints a line to standard error; ignores write errors.
info() { printf 'dispatch: %s\n' "$1" >&2 2>/dev/null || :; }

# fail CODE MESSAGE HINT: exits with one of the codes that `--help` lists (sysexits.h).
fail() {
  info "$2"$'\n'"  $3"
  exit "$1"
}

# The only variables that root's environment passes to the agent: keys, service URLs, proxies, locale and settings of dispatch.
# shellcheck disable=SC2034 # read by options.sh and isolate.sh
readonly PASSES=(
  ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_MODEL CLAUDE_CODE_OAUTH_TOKEN
  OPENAI_API_KEY OPENAI_BASE_URL CODEX_API_KEY GEMINI_API_KEY GOOGLE_API_KEY GEMINI_MODEL
  XAI_API_KEY GROK_CODE_XAI_API_KEY OPENROUTER_API_KEY AIDER_MODEL
  GITHUB_TOKEN GH_TOKEN HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
  LANG LC_ALL LC_CTYPE TZ TERM DISPATCH_HOME DISPATCH_TIMEOUT DISPATCH_GRACE
  DISPATCH_AGENTS DISPATCH_KEEP DISPATCH_KEEP_MIB DISPATCH_LOG_MIB
)
# Variables that only root's environment can set; when the user's .env is read, privileges are already dropped.
# shellcheck disable=SC2034
readonly ROOTS=(DISPATCH_USER DISPATCH_PATH DISPATCH_ALLOW_SUDO DISPATCH_ISOLATE DISPATCH_MEMORY DISPATCH_TASKS)

# writable_by_others FILE: prints the first of the file and its parent directories that a user other than root can write.
writable_by_others() {
  local path=$1
  while :; do
    if [[ $(stat -c %u -- "$path") != 0 || -n $(find "$path" -maxdepth 0 -perm /022 ! -perm -1000) ]]; then
      printf '%s\n' "$path"
      return 0
    fi
    [[ $path != / ]] || return 1
    path=${path%/*}
    path=${path:-/}
  done
}

# enter SCRIPT ARGS...: as root, continues as the user in the same process, or in a transient unit with DISPATCH_ISOLATE=1. Opens closed
# standard streams in any case, so that no later file gets descriptor 0, 1 or 2.
enter() {
  [[ -e /proc/$$/fd/0 ]] || exec </dev/null
  [[ -e /proc/$$/fd/1 ]] || exec >/dev/null
  [[ -e /proc/$$/fd/2 ]] || exec 2>/dev/null
  [[ ${DISPATCH_ISOLATE:-0} == [01] ]] || fail 64 "invalid DISPATCH_ISOLATE \"$DISPATCH_ISOLATE\"" "set it to 0 or 1"
  if ((EUID != 0)); then
    [[ ${DISPATCH_ISOLATE:-0} == 0 ]] || fail 77 "only root can start an isolated run" "sudo DISPATCH_ISOLATE=1 $1 ..."
    [[ ! -r ${CREDENTIALS_DIRECTORY:-/}/dispatch ]] || isolated "$CREDENTIALS_DIRECTORY/dispatch"
    return 0
  fi
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  local script=$1 lib=${BASH_SOURCE[0]%/*} user=ubuntu entry uid gid home shell file theirs
  local named=${lib%/*}/login-user files=("$script" "$lib"/*.sh)
  shift
  # install.sh writes the user that it was called with.
  [[ ! -e $named ]] || { user=$(<"$named"); files+=("$named"); }
  [[ ${DISPATCH_ISOLATE:-0} == 0 ]] || user=agent
  user=${DISPATCH_USER:-$user}
  entry=$(getent passwd -- "$user") || fail 67 "no such user: $user" "set DISPATCH_USER; install.sh creates the user agent"
  IFS=: read -r _ _ uid gid _ home shell <<<"$entry"
  ((uid != 0)) || fail 67 "$user has uid 0" "set DISPATCH_USER to an unprivileged user"
  for file in "${files[@]}"; do
    if theirs=$(writable_by_others "$file"); then
      fail 77 "$theirs can be written by others than root, so root does not run it" "reinstall the scripts with install.sh"
    fi
  done
  # The agent must not inherit root's open files.
  local fd
  for fd in "/proc/$$/fd/"*; do
    fd=${fd##*/}
    if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
  done
  # Operators search the output for this exact line.
  info "Auto-dropping privileges from root to $user user..."
  local path=${DISPATCH_PATH:+$DISPATCH_PATH:}$home/.local/bin:/usr/local/bin:/usr/bin:/bin
  if [[ ${DISPATCH_ISOLATE:-0} == 1 ]]; then
    # shellcheck source=isolate.sh
    . "$lib/isolate.sh"
    isolate "$user" "$home" "$path" "$script" "$@"
  fi
  # shellcheck source=become.sh
  . "$lib/become.sh"
  become "$script" "$@"
}

# isolated FILE: reads the variables that root passes on, NAME=VALUE, terminated by NUL.
isolated() {
  # shellcheck source=isolated.sh
  . "${BASH_SOURCE[0]%/*}/isolated.sh"
  be_isolated "$1"
}
