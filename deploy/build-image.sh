#!/bin/sh
# What the Dockerfile runs; the current folder is the checkout. PREFIX becomes a virtual environment.
#
#   sh deploy/build-image.sh dependencies PREFIX    exactly what locks/full.txt names, by its hashes
#   sh deploy/build-image.sh package PREFIX         stream_detector, its kernels compiled
#
# Two steps, so that a changed line of code does not install the dependencies again.
set -eu
step=$1 prefix=$2
pip="$prefix/bin/python -m pip --disable-pip-version-check --no-input"
case $step in
    dependencies)
        python3 -m venv "$prefix"
        $pip install --quiet --require-hashes --only-binary :all: -r locks/full.txt
        ;;
    package)
        # What builds the package comes from the lock, too.
        $pip install --quiet --no-deps --no-build-isolation .
        NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR="$prefix/kernels" "$prefix/bin/python" -I deploy/compile_kernels.py
        install -m 0755 deploy/entrypoint.sh "$prefix/entrypoint.sh"
        ;;
    *)
        echo "build-image.sh: there is no step '$step'; write dependencies or package" >&2
        exit 2
        ;;
esac
