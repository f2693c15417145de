"""The scripts by which a bash tells what it is, as a script that makes a fresh one like it.

They run between the scripts of users, so they must bear whatever those set: options, traps, functions with the names
of builtins, any `IFS`. What they say goes to descriptor 4 and ends with a NUL byte.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from string import ascii_letters

_OWN = (
    "BASH BASHOPTS BASHPID BASH_* COMP_WORDBREAKS COPROC DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS "
    "HISTCMD LINENO PIPESTATUS PPID PWD RANDOM SECONDS SHELLOPTS SRANDOM UID _ __trlm*"
)
"""Variables that bash sets by itself, and ours."""
_FIXED = (" login_shell", " restricted_shell")
"""Options that no script can set."""
_NAMES = " ".join(f'"${{!{letter}@}}"' for letter in "_" + ascii_letters)
_QUIET = "__trlm_debug=$(builtin trap -p DEBUG); builtin trap - DEBUG; "
"""A trap on every command would write into what we say. It is put back in the end."""
_AGAIN = 'builtin eval "$__trlm_debug"'

TELL = f"""{_QUIET}
{{
  builtin printf 'builtin cd -- %q\\n' "$PWD"
  builtin umask -p
  builtin shopt -p
  for __trlm_name in {_NAMES}; do
    case $__trlm_name in {_OWN.replace(" ", "|")}) ;;
    *) builtin declare -p "$__trlm_name" ;;
    esac
  done
  if (( $# )); then builtin printf 'set --'; builtin printf ' %q' "$@"; builtin printf '\\n'; fi
  builtin declare -f
  builtin declare -F
  builtin alias -p
  builtin printf 'set +o braceexpand +o hashall +o interactive-comments\\n'
  __trlm_rest=$SHELLOPTS:
  while [[ $__trlm_rest ]]; do
    builtin printf 'set -o %s\\n' "${{__trlm_rest%%:*}}"
    __trlm_rest=${{__trlm_rest#*:}}
  done
  builtin trap -p
  builtin printf '%s\\n\\0' "$__trlm_debug"
}} >&4 || builtin :
{_AGAIN}"""
"""`||` keeps `set -e` from ending the shell; options and traps come last, so that they do not disturb the rest."""


def park(roots: Sequence[str]) -> str:
    """Leaves the roots; says which files there it holds open, a line each."""
    patterns = "|".join(f"{shlex.quote(root)}|{shlex.quote(root)}/*" for root in roots)
    return f"""{_QUIET}
__trlm_folder=$PWD __trlm_before=${{OLDPWD-}} __trlm_any=${{OLDPWD+x}}
{{
  builtin cd /
  for __trlm_file in /proc/$$/fd/*; do
    __trlm_file=$(/usr/bin/readlink -- "$__trlm_file")
    case $__trlm_file in {patterns}) builtin printf '%s\\n' "$__trlm_file" ;; esac
  done
  builtin printf '\\0'
}} >&4 || builtin :
{_AGAIN}"""


ENTER = f"""{_QUIET}
{{
  builtin cd -- "$__trlm_folder" || builtin cd || builtin :
  if [[ $__trlm_any ]]; then OLDPWD=$__trlm_before; else unset -v OLDPWD; fi
  builtin printf '\\0' >&4
}} >/dev/null || builtin :
{_AGAIN}"""


def take_up(script: str) -> str:
    """Makes a fresh shell what `script`, of `TELL`, says; by `eval`, for which options count from line to line."""
    kept = "\n".join(line for line in script.split("\n") if not line.endswith(_FIXED))
    return f"builtin printf '\\0' >&4\nbuiltin eval {shlex.quote(kept)} >/dev/null"
