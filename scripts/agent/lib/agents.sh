# shellcheck shell=bash
# The agents: program, sources of its keys, and command line for a non-interactive task. Sourced.

# shellcheck disable=SC2034 # AGENT_* are read by the caller
# agent_look_up NAME: sets AGENT_PROGRAM, AGENT_KEYS (variables, of which one is required) and AGENT_LOGIN (credential files, an alternative).
agent_look_up() {
  AGENT_LOGIN=()
  case $1 in
    claude)
      AGENT_PROGRAM=claude
      AGENT_KEYS=(ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_OAUTH_TOKEN)
      AGENT_LOGIN=("$HOME/.claude/.credentials.json")
      ;;
    codex)
      AGENT_PROGRAM=codex
      AGENT_KEYS=(OPENAI_API_KEY CODEX_API_KEY)
      AGENT_LOGIN=("$HOME/.codex/auth.json")
      ;;
    gemini)
      AGENT_PROGRAM=gemini
      AGENT_KEYS=(GEMINI_API_KEY GOOGLE_API_KEY)
      AGENT_LOGIN=("$HOME/.gemini/oauth_creds.json")
      ;;
    grok)
      AGENT_PROGRAM=grok
      AGENT_KEYS=(XAI_API_KEY GROK_CODE_XAI_API_KEY)
      AGENT_LOGIN=("$HOME/.grok/auth.json")
      ;;
    aider)
      AGENT_PROGRAM=aider
      AGENT_KEYS=(ANTHROPIC_API_KEY OPENAI_API_KEY GEMINI_API_KEY XAI_API_KEY OPENROUTER_API_KEY)
      ;;
    *) fail 64 "unknown agent \"$1\"" "use claude, codex, gemini, grok or aider" ;;
  esac
}

# agent_ready NAME: fails with 69 if the program is missing, with 77 if all keys are.
agent_ready() {
  agent_look_up "$1"
  local name
  command -v "$AGENT_PROGRAM" >/dev/null ||
    fail 69 "$1 is not installed: no $AGENT_PROGRAM in PATH ($PATH)" "build an image with --provider all, or install it"
  for name in "${AGENT_KEYS[@]}"; do [[ -z ${!name:-} ]] || return 0; done
  for name in "${AGENT_LOGIN[@]}"; do [[ ! -s $name ]] || return 0; done
  fail 77 "$1 has no key: none of ${AGENT_KEYS[*]} is set" "set one in the environment or in $DISPATCH_HOME/.env"
}

# shellcheck disable=SC2034
# agent_line NAME TASK ARGS...: sets AGENT_LINE, the agent's command line with ARGS before the task. A task that begins with a dash is
# never parsed as an option.
agent_line() {
  local name=$1 task=$2
  shift 2
  case $name in
    claude) AGENT_LINE=(claude --print --dangerously-skip-permissions "$@" -- "$task") ;;
    codex) AGENT_LINE=(codex exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check "$@" -- "$task") ;;
    gemini) AGENT_LINE=(gemini --yolo --skip-trust "$@" "--prompt=$task") ;;
    grok) AGENT_LINE=(grok --always-approve "$@" "--single=$task") ;;
    aider) AGENT_LINE=(aider --yes-always --no-check-update --analytics-disable "$@" "--message=$task") ;;
  esac
}
