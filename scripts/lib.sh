# Shared by the scripts here: make .venv hold what is needed, on a machine that may have nothing.
# Usage: . scripts/lib.sh; ensure_venv run|test
# VENV names another virtual environment, and PYTHON the interpreter that it is made with.

root=${root:-$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)}
venv=${VENV:-$root/.venv}

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# apt_install PACKAGE...: install Debian packages, as root or through sudo that needs no password.
apt_install() {
    command -v apt-get >/dev/null || die "please install $* with your system's package manager"
    as=
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "please run: sudo apt-get install $*"
        as="sudo -n"
    fi
    say "installing $* ..."
    export DEBIAN_FRONTEND=noninteractive
    $as apt-get -qq install -y "$@" >/dev/null 2>&1 ||
        { $as apt-get -qq update && $as apt-get -qq install -y "$@" >/dev/null; } ||
        die "apt-get could not install $*"
}

find_python() {
    for python in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if command -v "$python" >/dev/null &&
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || die "$PYTHON is not Python 3.11 or newer"
    apt_install python3
    python=python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed"
}

# ensure_venv KIND: run = the gateway; test = the gateway, the locked test tools.
ensure_venv() {
    stamp=$venv/.stamp-$1
    # What is compiled where that can be done has its types in a .pxd of the same name.
    wanted=$(for types in "$root"/trio_gw/*/*.pxd; do
        cat "$types" "${types%.pxd}.py"
    done | cat "$root/pyproject.toml" "$root/tests/requirements.txt" "$root/hatch_build.py" - | cksum)
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! [ -x "$venv/bin/python" ]; then
        find_python
        "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
        say "creating $venv ..."
        "$python" -m venv "$venv" || die "could not create a virtual environment"
    fi
    say "installing the gateway's dependencies ..."
    pip="$venv/bin/python -m pip --disable-pip-version-check --quiet install"
    if [ "$1" = test ]; then
        $pip --require-hashes -r "$root/tests/requirements.txt" || die "pip failed"
    fi
    $pip -e "$root[top]" || die "pip failed"
    printf '%s' "$wanted" >"$stamp"
}
