#!/usr/bin/env bash
# `make remove-systemd`, as root: drains and ends the daemons and takes away units and program. The run, the keys and the
# settings stay, and so does their user; PURGE=1 takes these too.
set -euo pipefail

fail() { echo "remove-systemd: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "only root can remove units"
[ -d /run/systemd/system ] || fail "systemd is not process 1 of this machine"

systemctl stop 'farflung-actor@*.service' # before the learner, which takes what they hand in
for enabled in /etc/systemd/system/*.wants/farflung-*.service; do
  [ ! -L "$enabled" ] || systemctl --quiet disable --now "$(basename "$enabled")"
done
if systemctl --quiet is-active farflung-learner.service; then
  systemctl stop farflung-learner.service
fi
systemctl reset-failed 'farflung-*.service' 2>/dev/null || true # nothing has failed

rm -f /usr/local/lib/systemd/system/farflung-{learner,actor@}.service /etc/sysusers.d/farflung.conf
rm -rf /opt/farflung
systemctl daemon-reload

if [ -n "${PURGE:-}" ]; then
  rm -rf /etc/farflung /var/lib/farflung /etc/systemd/system/farflung-*.service.d
  if id farflung >/dev/null 2>&1; then
    userdel farflung
  fi
  echo "Farflung is removed, and with it its run, its keys and its settings."
else
  echo "Farflung is removed. /etc/farflung and /var/lib/farflung stay: PURGE=1 make remove-systemd takes them too."
fi
