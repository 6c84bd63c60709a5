#!/usr/bin/env bash
# `make install-systemd`, as root: Farflung in /opt/farflung, its user, folders, keys and units. Begins nothing. Run it
# again to upgrade; what it finds in /etc/farflung and /var/lib/farflung it leaves as it is.
#
#   EXPERIMENT=FILE             the experiment of a learner that has none yet, in place of CartPole-v1's
#   LEARNER=ADDRESS KEY=FILE    this machine has actors alone: where their learner is, and the key that it made for them
#   FARFLUNG_EXTRAS=box2d,atari simulators, extras of pyproject.toml
#   PIP_EXTRA_INDEX_URL=...     where pip finds the CPU build of torch (CONTRIBUTING.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
umask 022 # what is installed here is another user's to read

venv=/opt/farflung etc=/etc/farflung units=/usr/local/lib/systemd/system

fail() { echo "install-systemd: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "only root can install units"
[ -d /run/systemd/system ] || fail "systemd is not process 1 of this machine"
if [ -n "${LEARNER:-}" ]; then
  [ -n "${KEY:-}" ] || [ -e "$etc/actor.key" ] || fail "name the key of this machine's actors: KEY=FILE (learner keys new)"
  [ -z "${KEY:-}" ] || [ -r "$KEY" ] || fail "there is no key $KEY"
elif [ -n "${KEY:-}" ]; then
  fail "KEY is for a machine that has actors alone: say LEARNER=tcp://learner.example:5555 too"
fi
[ -r "${EXPERIMENT:-pyproject.toml}" ] || fail "there is no experiment $EXPERIMENT"

# The units hide /home and /root, so a Python of a user's version manager would not start in them.
for python in ${CANDIDATES:-python3.13 python3.12 python3.11 python3}; do
  home=$("$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11)) or print(sys.base_prefix)' \
    2>/dev/null) || continue
  case $home/ in /root/* | /home/*) ;; *) found=$python && break ;; esac
done
[ -n "${found:-}" ] || fail "no Python 3.11 or newer with its venv module outside /root and /home, which units cannot" \
  "see (tried: ${CANDIDATES:-python3.13 python3.12 python3.11 python3}); on Debian: apt install python3-venv"

[ -x "$venv/bin/python" ] || "$found" -m venv "$venv"
echo "installing Farflung into $venv (the first time this fetches torch: some minutes)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
  --constraint constraints.txt ".${FARFLUNG_EXTRAS:+[$FARFLUNG_EXTRAS]}"

install -D -m 0644 deploy/systemd/farflung.sysusers.conf /etc/sysusers.d/farflung.conf
systemd-sysusers farflung.conf
install -d -m 0755 "$etc" "$etc/modules"
install -D -m 0644 -t "$units" 'deploy/systemd/farflung-actor@.service'

if [ -z "${LEARNER:-}" ]; then
  install -m 0644 -t "$units" deploy/systemd/farflung-learner.service
  [ -e "$etc/experiment.toml" ] || install -m 0644 "${EXPERIMENT:-deploy/experiments/cartpole.toml}" "$etc/experiment.toml"
  install -d -m 0750 -o root -g farflung "$etc/keys"
  if [ ! -e "$etc/actor.key" ]; then
    "$venv/bin/learner" keys new "$(uname -n)" --keys "$etc/keys" >/dev/null
    mv "$etc/keys/$(uname -n).key" "$etc/actor.key"
  fi
  # Root's, and the learner reads them. `learner keys` keeps the list's owner and mode.
  chown root:farflung "$etc/keys/learner.key" "$etc/keys/authorized"
  chmod 0640 "$etc/keys/learner.key" "$etc/keys/authorized"
  [ -e "$etc/learner.env" ] || install -m 0644 /dev/stdin "$etc/learner.env" <<'ENV'
# More flags of `learner run`, as in OPTIONS=--http 0.0.0.0:9400 --allow-module corridor; of two of a kind the later counts.
OPTIONS=
# Settings that this machine says differently than the experiment: FARFLUNG_TABLE__KEY=VALUE.
ENV
elif [ -n "${KEY:-}" ]; then
  install -m 0600 "$KEY" "$etc/actor.key"
fi
if [ -n "${LEARNER:-}" ] && [ -e "$etc/actor.env" ]; then
  sed -i "s|^LEARNER=.*|LEARNER=$LEARNER|" "$etc/actor.env"
fi
[ -e "$etc/actor.env" ] || install -m 0644 /dev/stdin "$etc/actor.env" <<ENV
LEARNER=${LEARNER:-tcp://127.0.0.1:5555}
# More flags of \`actor run\`, as in OPTIONS=--allow-module corridor.
OPTIONS=
ENV

systemctl daemon-reload
version=$("$venv/bin/python" -c 'import importlib.metadata; print(importlib.metadata.version("farflung"))')
if systemctl --quiet is-active farflung-learner.service 'farflung-actor@*.service'; then
  echo "Farflung $version is installed; what runs is the old one until: systemctl try-restart 'farflung-*'"
elif [ -n "${LEARNER:-}" ]; then
  echo "Farflung $version is installed. Begin: systemctl enable --now farflung-actor@{1..$(nproc)}"
else
  echo "Farflung $version is installed. Begin: systemctl enable --now farflung-learner farflung-actor@1"
fi
