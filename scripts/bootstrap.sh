#!/bin/bash
# Installs what is missing on a Debian machine, and nothing when nothing is.
#
#   scripts/bootstrap.sh build      Rust, a C++ compiler and libclang (for RocksDB)
#   scripts/bootstrap.sh psql       the psql client
#   scripts/bootstrap.sh test       psql and Python with venv, for the client tests
#   scripts/bootstrap.sh python     Python with pip
#   scripts/bootstrap.sh postgres   the PostgreSQL server, for the ingest benchmark
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

say() { echo "bootstrap: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

packages=()
need() { packages+=("$@"); }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else
        say "root is needed to install packages: run as root, install sudo, or run: $*"
        exit 1
    fi
}

updated=false
update() {
    $updated && return
    as_root apt-get -q -q update
    updated=true
}

offered() { apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'; }

install() {
    have apt-get || { say "not a Debian machine: please install $*"; exit 1; }
    for package in "$@"; do
        offered "$package" || { update; break; }
    done
    say "installing $*"
    local command=(env DEBIAN_FRONTEND=noninteractive apt-get -q -q install -y --no-install-recommends)
    # Package lists that are out of date name versions that are gone: fetch them and try once more.
    as_root "${command[@]}" "$@" </dev/null >&2 || { update; as_root "${command[@]}" "$@" </dev/null >&2; }
}

# libclang may be installed in any version; missing, the release's default version is taken.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null
}
clang_headers() { compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null; }

libclang_packages() {
    offered libclang1 || update
    local version
    version=$(apt-cache depends libclang1 | sed -n 's/.*Depends: libclang1-\([0-9]*\).*/\1/p' | head -1)
    [ -n "$version" ] || { say "apt offers no libclang"; exit 1; }
    need "libclang1-$version" "libclang-common-$version-dev"
}

rust() {
    local wanted
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    if ! have cargo && ! have rustup; then
        offered rustup || update
        if offered rustup; then
            install rustup
        else
            say "Rust is missing, and this release of Debian has no rustup package (Debian 13 has)."
            say "Install Rust $wanted or later from https://rustup.rs, then run the command again."
            exit 1
        fi
    fi
    if have rustup; then
        # Named explicitly: whether rustup fetches a missing toolchain by itself is a setting.
        if ! rustup run "$wanted" cargo clippy --version >/dev/null 2>&1 ||
            ! rustup run "$wanted" cargo fmt --version >/dev/null 2>&1; then
            say "installing Rust $wanted"
            rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy >&2
        fi
    else
        local found
        found=$(cargo --version | sed 's/^cargo \([0-9.]*\).*/\1/')
        if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1)" != "$wanted" ]; then
            say "cargo $found is too old, $wanted or later is needed (https://rustup.rs)"
            exit 1
        fi
    fi
}

for part in "$@"; do
    case $part in
    build)
        have g++ || need g++
        have gcc || need gcc
        have make || need make
        [ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates
        { has_libclang && clang_headers; } || libclang_packages
        ;;
    psql) have psql || need postgresql-client ;;
    python) { have python3 && python3 -m pip --version >/dev/null 2>&1; } || need python3 python3-pip ;;
    test)
        have psql || need postgresql-client
        { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; } || need python3 python3-venv
        ;;
    postgres)
        { have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; } || need postgresql
        ;;
    *) say "unknown part $part"; exit 2 ;;
    esac
done

[ ${#packages[@]} = 0 ] || install "${packages[@]}"
for part in "$@"; do
    [ "$part" != build ] || rust
done
