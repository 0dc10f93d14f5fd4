# Shared by the scripts beside it; to be sourced by bash.
# shellcheck shell=bash

# rustup's directory, for shells that have not read its profile; the sbin directories for ip, tc and friends.
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"

say() { printf '%s: %s\n' "$(basename "$0")" "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether commands can be run as root; asks for sudo's password where there is a terminal to ask on. If not,
# no_root_reason says why.
no_root_reason=
can_be_root() {
    is_root && return 0
    if ! command -v sudo >/dev/null; then
        no_root_reason="there is no sudo"
    elif sudo -n true 2>/dev/null; then
        return 0
    elif [ ! -t 0 ]; then
        no_root_reason="sudo wants a password and there is no terminal to ask on"
    elif sudo -v; then
        return 0
    else
        no_root_reason="sudo refuses"
    fi
    return 1
}

# Where cargo builds.
target_dir() {
    case ${CARGO_TARGET_DIR:-} in
        "") echo "$root/target" ;;
        /*) echo "$CARGO_TARGET_DIR" ;;
        *) echo "$root/$CARGO_TARGET_DIR" ;;
    esac
}

# What was made as root in the checkout and the build directory belongs to its user again; else the next build,
# which is not root's, fails on it.
give_back_ownership() {
    is_root && return 0
    sudo -n find "$root" "$(target_dir)" -xdev -uid 0 -exec chown -h "$(id -u):$(id -g)" {} + || true
}

# Keeps sudo from asking again in the middle of a long run; ends with this script.
keep_sudo() {
    is_root && return 0
    (while kill -0 $$ 2>/dev/null && sudo -n -v 2>/dev/null; do sleep 50; done) </dev/null >/dev/null 2>&1 &
    sudo_keeper=$!
}

# Runs one named step and tells how long it took; a failure ends the script. (Called as a plain command, so that
# `set -e` holds within a function given as the step.)
phase() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: %d s\n' "$name" $((SECONDS - began))
}

# Runs a command that is a `cargo test`; fails also when it ran no test, as when those that it asks for by name have been
# renamed.
ran_tests() {
    local log status=0
    log=$(mktemp)
    "$@" 2>&1 </dev/null | tee "$log" || status=${PIPESTATUS[0]}
    if [ "$status" -eq 0 ] && ! grep -q '^test result: ok\. [1-9]' "$log"; then
        say "no test ran: $*"
        status=1
    fi
    rm -f "$log"
    return "$status"
}
