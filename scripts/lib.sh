# Shared by the scripts here: make .venv hold what is needed, on a machine that may have nothing.
# Usage: . scripts/lib.sh; ensure_venv, or start_quickly
# WITH_VENV names another virtual environment, and WITH_PYTHON the interpreter that it is made with.

root=${root:-$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)}
venv=${WITH_VENV:-$root/.venv}

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
    for python in ${WITH_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if command -v "$python" >/dev/null &&
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    [ -z "${WITH_PYTHON:-}" ] || die "$WITH_PYTHON is not Python 3.11 or newer"
    apt_install python3
    python=python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed"
}

# wanted: a fingerprint of what an installation depends on.
# What is compiled where that can be done has its types in a .pxd of the same name.
wanted() {
    for types in "$root"/trio_gw/*/*.pxd; do
        cat "$types"
        [ ! -f "${types%.pxd}.py" ] || cat "${types%.pxd}.py"
    done | cat "$root/pyproject.toml" "$root/tests/requirements.txt" "$root/hatch_build.py" - | cksum
}

# installed KIND: the installation of this kind is complete and up to date.
installed() {
    [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.stamp-$1" 2>/dev/null)" = "$wanted" ]
}

# ensure_venv: make the virtual environment hold the gateway and the locked test tools. The relay is
# compiled where there is a C compiler.
ensure_venv() {
    wanted=$(wanted)
    ! installed test || return 0
    make_venv
    say "installing the gateway's dependencies ..."
    install_uv || die "uv could not be installed"
    install="$venv/bin/uv --quiet pip install --python $venv/bin/python"
    $install --require-hashes -r "$root/tests/requirements.txt" || die "uv failed"
    locked $install -e "$root[top]" || die "uv failed"
    printf '%s' "$wanted" >"$venv/.stamp-test"
    printf '%s' "$wanted" >"$venv/.stamp-compiled"
}

# make_venv: make a virtual environment, unless there is one. It has no pip at first: to install it
# takes longer than all the rest.
make_venv() {
    ! [ -x "$venv/bin/python" ] || return 0
    find_python
    "$python" -c 'import venv' 2>/dev/null || apt_install python3-venv
    say "creating $venv ..."
    "$python" -m venv --without-pip "$venv" || die "could not create a virtual environment"
}

# install_uv: install the locked uv, which installs the rest much faster than pip.
install_uv() {
    ! [ -x "$venv/bin/uv" ] || return 0
    sed -n '/^uv==/,/# via/p' "$root/tests/requirements.txt" >"$venv/uv.txt"
    bundled_pip install --require-hashes -r "$venv/uv.txt"
}

# locked COMMAND...: run a command while no other process compiles into this source tree.
locked() {
    if command -v flock >/dev/null; then
        flock "$venv/.compiling" "$@"
    else
        "$@"
    fi
}

# start_quickly: make the gateway ready to run in pure Python, within seconds; then compile the
# relay in the background, for the next start.
start_quickly() {
    wanted=$(wanted)
    if ! installed start && ! installed test; then
        install_pure
    fi
    if installed compiled || [ "${TRIO_GW_PURE:-0}" != 0 ] || ! command -v flock >/dev/null ||
        ! command -v cc >/dev/null; then
        return 0
    fi
    say "compiling in the background; restart to use it"
    # A session of its own: Ctrl-C ends the gateway, not the compiler.
    setsid -f nice -n 19 "$root/scripts/compile" "$venv" "$wanted" \
        </dev/null >"$venv/compile.log" 2>&1 || say "cannot compile in the background"
}

# install_pure: install the gateway without its compiled part, by uv if that can be had.
install_pure() {
    make_venv
    say "installing the gateway's dependencies ..."
    if install_uv; then
        if TRIO_GW_PURE=1 "$venv/bin/uv" --quiet pip install --python "$venv/bin/python" \
            -e "$root[top]"; then
            printf '%s' "$wanted" >"$venv/.stamp-start"
            return 0
        fi
        say "uv failed; trying pip ..."
    fi
    TRIO_GW_PURE=1 bundled_pip install -e "$root[top]" || die "pip failed"
    printf '%s' "$wanted" >"$venv/.stamp-start"
}

# bundled_pip ARGUMENT...: run the pip that comes with Python, without installing it.
bundled_pip() {
    pip_wheel=$(find_pip)
    if [ -z "$pip_wheel" ]; then
        apt_install python3-venv
        pip_wheel=$(find_pip)
    fi
    [ -n "$pip_wheel" ] || die "Python has no pip: please install its package of venv or ensurepip"
    "$venv/bin/python" "$pip_wheel/pip" --disable-pip-version-check --quiet "$@"
}

# find_pip: print the wheel of pip that ensurepip would install.
find_pip() {
    folder=$("$venv/bin/python" -c 'import ensurepip; print(ensurepip.__path__[0])' 2>/dev/null) || :
    for pip_wheel in "$folder"/_bundled/pip-*.whl /usr/share/python-wheels/pip-*.whl; do
        if [ -f "$pip_wheel" ]; then
            printf '%s' "$pip_wheel"
            return
        fi
    done
}
