#!/bin/sh
# Creates .venv and installs everything, once; the next call finishes an interrupted one. For `make setup`.
# PYTHON: the interpreter to use; TORCH: the build of torch to install.
set -u
stop() {
    printf "glt: error: %s\n" "$1" >&2
    exit 1
}
supported="import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"
version="import platform; print(platform.python_version())"
venv=.venv/bin/python
moved=

# Silent if .venv is complete: made in this folder, by an interpreter that still runs, from these requirements.
if [ -f .venv/done ] && "$venv" -c "" 2>/dev/null; then
    place=$(cd .venv && pwd -P)
    made=$(cat .venv/done)
    if [ "${made:-$place}" != "$place" ]; then
        moved=yes
        printf "glt: .venv was made at %s; it is made again here\n" "$made"
    elif ! [ pyproject.toml -nt .venv/done ] && ! [ constraints.txt -nt .venv/done ]; then
        [ -n "$made" ] || printf '%s\n' "$place" >.venv/done
        exit 0
    fi
fi

python=
if [ -n "${PYTHON:-}" ]; then
    found=$("$PYTHON" -c "$version" 2>/dev/null) ||
        stop "PYTHON=$PYTHON does not run; give the command or path of Python 3.11 or 3.12, as in: make setup PYTHON=python3.12"
    "$PYTHON" -c "$supported" ||
        stop "PYTHON=$PYTHON is Python $found; glt needs 3.11 or 3.12, as in: make setup PYTHON=python3.12"
    python=$PYTHON
else
    found=
    for name in python3.11 python3.12 python3 python; do
        here=$("$name" -c "$version" 2>/dev/null) || continue
        if "$name" -c "$supported"; then
            python=$name
            break
        fi
        found="$found $here"
    done
    [ -n "$python" ] ||
        stop "no Python 3.11 or 3.12 here (found:${found:- none}); install one, then: make setup PYTHON=path/of/python3.12"
fi

if [ -e .venv ] && ! [ -f .venv/pyvenv.cfg ] && [ -n "$(find .venv/ -type f 2>/dev/null | head -n 1)" ]; then
    stop ".venv: this is not a Python virtual environment, so it is not replaced; move it away"
fi
# A usable .venv is kept: only one from another folder, or without pip, is made again.
rm -f .venv/done
if [ -n "$moved" ] || ! "$venv" -m pip --version >/dev/null 2>&1 || ! "$venv" -c "$supported"; then
    "$python" -m venv --clear .venv || stop "$python cannot make .venv (see its message above); \
if it lacks the module venv or ensurepip, install your system's package python3-venv, else give another: make setup PYTHON=..."
fi

export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
install() {
    "$venv" -m pip install --quiet "$@" || stop "not everything could be installed (see pip's message above); \
check the connection and pip's index (PIP_INDEX_URL, pip config list) or give another TORCH=, then run make setup again: it resumes"
}
echo "glt: installing into .venv with Python $("$venv" -c "$version"); this takes minutes, once"
install --upgrade pip
install -- "${TORCH:-torch}"
install --constraint constraints.txt --editable '.[pipeline,tracking,data,stack,dev]'
(cd .venv && pwd -P) >.venv/done || stop ".venv/done cannot be written; make room on this disk, then run make setup again"
