#!/bin/bash
# browser.sh PACKAGE PROFILE: Chromium out of an unpacked Debian package, without a window and without any network,
# taught through its DevTools protocol: a JSON message ended by NUL a time, in on standard input, out on standard output.
#
# It gets its own mount, network and process namespaces; PACKAGE lies over /usr. It ends when its wrapper does.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "browser: namespaces need root (tests/run uses sudo where there is one)" >&2; exit 77; }
# Where the host lacks fonts, their configuration is in the package too.
if [ -e "$1/etc/fonts/fonts.conf" ]; then export FONTCONFIG_PATH=$1/etc/fonts; fi
# The pipe of the protocol is descriptors 3 and 4.
exec 3<&0 4>&1 </dev/null >&2
exec unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private bash -c '
    mount -t overlay -o "lowerdir=$0/usr:/usr" overlay /usr
    exec /usr/lib/chromium/chromium-headless-shell --no-sandbox --disable-gpu --hide-scrollbars \
        --remote-debugging-pipe --user-data-dir="$1"' "$@"
