# shellcheck shell=sh
# Sourced by ./scripts/demo and ./scripts/test: the Python, and the messages, of both.
#
# Reads: PYTHON, PATH. Sets, by need_python: $python, the path of a Python 3.9 or later with venv.

# fail WHAT HOW-TO-MEND
fail() {
    printf '%s: %s; hint: %s\n' "${0##*/}" "$1" "$2" >&2
    exit 1
}

need_python() {
    wanted=${PYTHON:-python3}
    hint='install Python 3.9 or later, or name one: PYTHON=/path/to/python3'
    python=$(command -v "$wanted") || fail "$wanted was not found" "$hint"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        fail "$python does not run" "$hint"
    case $version in
        2.* | 3.[0-8]) fail "$python is Python $version" "$hint" ;;
    esac
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv" "install it (Debian, Ubuntu: the package python3-venv), or $hint"
}
