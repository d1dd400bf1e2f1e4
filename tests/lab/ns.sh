#!/bin/bash
# ns.sh PACKAGE STATE FQDN CMD...: runs CMD, a daemon in the foreground, where it takes itself for the
# only mail system of a host called FQDN.
#
# It gets its own mount, host name and process namespaces: PACKAGE (an unpacked Debian package) lies over
# /usr, and STATE/{etc,var,run} are its /etc, /var and /run. Of the host it sees no mail configuration,
# no queue and no users. The network is the host's: instances differ by loopback address.
#
# It ends when CMD ends or standard input closes, and with it every process it has started: the inner
# shell is the first process of the namespace, so when it exits the kernel kills the rest and waits for
# them. A caller that holds the other end of the pipe cannot leave anything behind, not even by dying.
set -euo pipefail

# The host's side: what the private /etc and /var hold. Files already in STATE stay as they are.
outside() {
    local package=$1 state=$2 fqdn=$3 name
    [ "$(id -u)" = 0 ] || { echo "mail lab: namespaces need root (tests/run uses sudo where there is one)" >&2; exit 77; }
    mkdir -p "$state"/{etc,run,var/{lib,log,mail,spool,tmp}}
    chmod 1777 "$state/var/tmp"
    ln -sfn /run "$state/var/run"
    for name in etc var; do
        if [ -d "$package/$name" ]; then cp -an "$package/$name/." "$state/$name/"; fi
    done
    for name in ld.so.cache localtime protocols services ssl; do
        if [ -e "/etc/$name" ]; then cp -a "/etc/$name" "$state/etc/"; fi
    done
    cat >"$state/etc/passwd" <<END
root:x:0:0:root:/root:/usr/sbin/nologin
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
postfix:x:61001:61001:postfix:/var/spool/postfix:/usr/sbin/nologin
Debian-exim:x:61003:61003:exim:/var/spool/exim4:/usr/sbin/nologin
dovecot:x:61004:61004:dovecot:/usr/lib/dovecot:/usr/sbin/nologin
dovenull:x:61005:61005:dovenull:/nonexistent:/usr/sbin/nologin
vmail:x:61006:61006:vmail:/var/mail:/usr/sbin/nologin
opensmtpd:x:61007:61007:opensmtpd:/var/lib/opensmtpd/empty:/usr/sbin/nologin
opensmtpq:x:61008:61008:opensmtpd queue:/var/lib/opensmtpd/empty:/usr/sbin/nologin
smmta:x:61009:61009:sendmail:/var/lib/sendmail:/usr/sbin/nologin
smmsp:x:61010:61010:sendmail submission:/var/lib/sendmail:/usr/sbin/nologin
alice:x:61011:61011:a user:/var/home/alice:/usr/sbin/nologin
bob:x:61012:61012:a user:/var/home/bob:/usr/sbin/nologin
END
    { sed -E 's/^([^:]*):x:[0-9]*:([0-9]*):.*/\1:x:\2:/; s/^nobody:/nogroup:/' "$state/etc/passwd"; echo postdrop:x:61002:; } \
        >"$state/etc/group"
    printf '%s: files\n' passwd group hosts services protocols >"$state/etc/nsswitch.conf"
    printf '127.0.0.1 localhost\n127.0.0.1 %s %s\n' "$fqdn" "${fqdn%%.*}" >"$state/etc/hosts"
    echo "$fqdn" >"$state/etc/mailname"
    exec unshare --uts --mount --pid --fork --kill-child --mount-proc --propagation private \
        bash "$0" --inside "$@"
}

# The namespace's first process.
inside() {
    local package=$1 state=$2 fqdn=$3 top
    shift 3
    echo "${fqdn%%.*}" >/proc/sys/kernel/hostname
    mount -t overlay -o "lowerdir=$package/usr:/usr" overlay /usr
    for top in etc var run; do mount --bind "$state/$top" "/$top"; done
    install -d -o postfix /var/lib/postfix
    install -d -o Debian-exim /var/spool/exim4 /var/log/exim4
    install -d -o vmail -g vmail /var/mail
    # OpenSMTPD believes a .forward that is its user's.
    for user in alice bob; do
        if [ -d "/var/home/$user" ]; then chown -R "$user" "/var/home/$user"; fi
    done
    install -d -m 711 /var/spool/smtpd /var/lib/opensmtpd/empty
    install -d -m 700 /var/spool/mqueue
    exec 3<&0
    cat <&3 >/dev/null &
    "$@" </dev/null 3<&- &
    wait -n || echo "mail lab: status $? from $*" >&2
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
