# shellcheck shell=bash
# Who runs: as root, nothing is done but to become the unprivileged user, before any file is read that this user can write.
# Sourced by every dispatch script, first; sets no options of its caller.

# Whether this run is in a unit of its own; no caller says so.
ISOLATED=""

# say TEXT: a line for whoever reads standard error, if somebody still does.
say() { printf 'dispatch: %s\n' "$1" >&2 2>/dev/null || :; }

# fail CODE MESSAGE HINT: ends with one of the exit codes that `--help` lists (sysexits.h).
fail() {
  say "$2"$'\n'"  $3"
  exit "$1"
}

# What passes from root's environment to the agent, and nothing else: its keys, where its service is, proxies, language, our settings.
# shellcheck disable=SC2034 # read by options.sh and isolate.sh
readonly PASSES=(
  ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_MODEL CLAUDE_CODE_OAUTH_TOKEN
  OPENAI_API_KEY OPENAI_BASE_URL CODEX_API_KEY GEMINI_API_KEY GOOGLE_API_KEY GEMINI_MODEL
  XAI_API_KEY GROK_CODE_XAI_API_KEY OPENROUTER_API_KEY AIDER_MODEL
  GITHUB_TOKEN GH_TOKEN HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
  LANG LC_ALL LC_CTYPE TZ TERM DISPATCH_HOME DISPATCH_TIMEOUT DISPATCH_GRACE
  DISPATCH_AGENTS DISPATCH_KEEP DISPATCH_KEEP_MIB DISPATCH_LOG_MIB
)
# What only root's environment can say. In a file of the user's it would come too late.
# shellcheck disable=SC2034
readonly ROOTS=(DISPATCH_USER DISPATCH_PATH DISPATCH_ALLOW_SUDO DISPATCH_ISOLATE DISPATCH_MEMORY DISPATCH_TASKS)

# writable_by_others FILE: the first of the file and the folders above it that somebody besides root can write.
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

# enter SCRIPT ARGS...: as root, goes on as the user in the same process, or with DISPATCH_ISOLATE=1 in a unit of its own. Standard
# streams that are closed are opened in any case, so that no file becomes one of them.
enter() {
  [[ -e /proc/$$/fd/0 ]] || exec </dev/null
  [[ -e /proc/$$/fd/1 ]] || exec >/dev/null
  [[ -e /proc/$$/fd/2 ]] || exec 2>/dev/null
  [[ ${DISPATCH_ISOLATE:-0} == [01] ]] || fail 64 "DISPATCH_ISOLATE is \"$DISPATCH_ISOLATE\"" "it is 1 or 0"
  if ((EUID != 0)); then
    [[ ${DISPATCH_ISOLATE:-0} == 0 ]] || fail 77 "only root can start an isolated run" "sudo DISPATCH_ISOLATE=1 $1 ..."
    [[ ! -r ${CREDENTIALS_DIRECTORY:-/}/dispatch ]] || isolated "$CREDENTIALS_DIRECTORY/dispatch"
    return 0
  fi
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  local script=$1 lib=${BASH_SOURCE[0]%/*} user=${DISPATCH_USER:-ubuntu} entry uid gid home shell file theirs
  shift
  [[ ${DISPATCH_ISOLATE:-0} == 0 ]] || user=${DISPATCH_USER:-agent}
  entry=$(getent passwd -- "$user") || fail 67 "there is no user $user to work as" "DISPATCH_USER names another; install.sh makes the user agent"
  IFS=: read -r _ _ uid gid _ home shell <<<"$entry"
  ((uid != 0)) || fail 67 "$user is root" "DISPATCH_USER names a user without privileges"
  for file in "$script" "$lib"/*.sh; do
    if theirs=$(writable_by_others "$file"); then
      fail 77 "$theirs can be written by others than root, so root runs nothing of it" "install the scripts anew: install.sh"
    fi
  done
  # What root has open is not the agent's.
  local fd
  for fd in "/proc/$$/fd/"*; do
    fd=${fd##*/}
    if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
  done
  # These words are what the guide for operators has them look for.
  say "Auto-dropping privileges from root to $user user..."
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

# isolated FILE: takes what root passes on, NAME=VALUE ended by NUL.
isolated() {
  # shellcheck source=isolated.sh
  . "${BASH_SOURCE[0]%/*}/isolated.sh"
  be_isolated "$1"
}
