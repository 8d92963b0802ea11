#!/bin/sh
# The image's entry: stream-detector, with the kernels that were compiled with the image.
#
# numba uses kept machine code only from a folder that it may write to, and the image cannot be written.
# So a copy (0.6 MB) moves to NUMBA_CACHE_DIR in /tmp. Without room there each start compiles for seconds.
set -eu
if [ -n "${NUMBA_CACHE_DIR:-}" ] && [ ! -e "$NUMBA_CACHE_DIR" ]; then
    cp -R "$(dirname "$0")/kernels" "$NUMBA_CACHE_DIR" ||
        echo "entrypoint: $NUMBA_CACHE_DIR cannot be written; mount a tmpfs at /tmp" >&2
fi
exec stream-detector "$@"
