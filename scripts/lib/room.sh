# Sourced by the scripts that make a room: a Debian root filesystem in a folder, entered by namespaces of its own, with a
# clone of HEAD and an ordinary user in it. Rooms lie in $cache; from this machine they get the package-index settings, the
# CA bundle and the resolver, and nothing else. Expects `checkout`, `cache` and `fail MESSAGE`.
# shellcheck shell=bash disable=SC2154
user_home=/home/user
room=
inside= # the process that holds the room's namespaces

need_root() { [ "$(id -u)" = 0 ] || fail "this needs root, to make a root filesystem and enter it. Fix: sudo $0"; }

say_what_counts() {
  [ -z "$(git status --porcelain --untracked-files=no)" ] || echo "$0: note: only what is committed is tried." >&2
}

leave_room() {
  # Processes and mounts live in the room's own namespaces and end with its pid 1; only the folder is left.
  if [ -n "$inside" ]; then
    # Pid 1 of the room, whose end waits for all in it; before it exists, unshare itself.
    # shellcheck disable=SC2046
    kill -KILL $(cat "/proc/$inside/task/$inside/children" 2>/dev/null) 2>/dev/null || kill -KILL "$inside" 2>/dev/null || true
    wait "$inside" 2>/dev/null || true
    inside=
  fi
  if [ -n "$room" ]; then rm -rf --one-file-system "$room"; fi
  room=
}

# sweep PREFIX: what runs that were killed outright left in $cache, named PREFIX.PID.LETTERS.
sweep() {
  local left
  for left in "$cache/$1".*; do
    [ -d "$left" ] || continue
    if ! kill -0 "$(basename "$left" | cut -d. -f2)" 2>/dev/null; then rm -rf --one-file-system "$left"; fi
  done
}

# give PATH: copies a file or folder of this machine into the room, at the same place.
give() {
  if [ -e "$1" ]; then
    mkdir -p "$room$(dirname "$1")"
    cp -rL "$1" "$room$(dirname "$1")/"
  fi
}

# clone_head FOLDER: without a way back to this checkout.
clone_head() {
  git clone --quiet --no-hardlinks "file://$checkout" "$1"
  git -C "$1" remote remove origin
}

# make_room TAR: a new room from a root filesystem.
make_room() {
  room=$(mktemp -d "$cache/room.$$.XXXXXX")
  chmod 755 "$room"
  tar -xf "$1" -C "$room"
  echo "user:x:1000:1000::$user_home:/bin/bash" >>"$room/etc/passwd"
  echo "user:x:1000:" >>"$room/etc/group"
  rm -f "$room/etc/resolv.conf"
  give /etc/resolv.conf
  give /etc/pip.conf
  mkdir -p "$room$user_home/.config/pip"
  local config
  for config in "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" "${PIP_CONFIG_FILE:-}"; do
    if [ -f "$config" ]; then cp "$config" "$room$user_home/.config/pip/pip.conf"; fi
  done
  clone_head "$room$user_home/terraphim-rlm"
  collect_settings
  chown -R 1000:1000 "$room$user_home"
}

# The machine's settings for package indexes, as NAME=VALUE words in the array `settings`; what they point to is given too.
collect_settings() {
  settings=("HOME=$user_home" USER=user LOGNAME=user "SHELL=/bin/bash" LANG=C.UTF-8 TERM="${TERM:-dumb}"
    PATH=/usr/local/bin:/usr/bin:/bin)
  local name value
  while IFS= read -r name; do
    value=${!name}
    case $name in
      PIP_CONFIG_FILE) continue ;;
      PIP_FIND_LINKS | PIP_CERT | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE) give "$value" ;;
    esac
    settings+=("$name=$value")
  done < <(compgen -e | grep -E '^(PIP_.*|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)$')
  give /etc/ssl/certs/ca-certificates.crt
}

# enter COMMAND..: replaces the process that calls it.
enter() {
  exec unshare --mount --pid --ipc --uts --fork --kill-child=KILL \
    env -i --default-signal=INT,QUIT "${settings[@]}" scripts/lib/enter-room "$room" "$@"
}
