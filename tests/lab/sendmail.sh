#!/bin/bash
# Makes of sendmail.mc and the tables in /etc/mail what Sendmail reads, and becomes it. Runs in a namespace
# of ns.sh.
set -euo pipefail
cd /etc/mail
cf=/usr/share/sendmail/cf
m4 -D_CF_DIR_=$cf/ $cf/m4/cf.m4 sendmail.mc >sendmail.cf
sendmail=/usr/libexec/sendmail
"$sendmail/makemap" hash access <access
"$sendmail/sendmail" -bi
exec "$sendmail/sendmail" -bD -q1s -X /var/log/traffic
