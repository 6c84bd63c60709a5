#!/bin/sh
# Puts the keys of a run in the two Secrets that its pods mount, and makes keys where there are none yet. Run it again
# after `learner keys new` or `revoke`: a running learner hears of it within a minute or two.
# usage: deploy/kubernetes/keys.sh [DIR [NAMESPACE]]    (keys, farflung)
set -eu
keys=${1:-keys}
namespace=${2:-farflung}

secret() {
  kubectl create secret generic "$@" --namespace "$namespace" --dry-run=client --output=yaml |
    kubectl apply --server-side --filename=-  # server-side leaves no copy of them in an annotation
}

[ -e "$keys/fleet.key" ] || learner keys new fleet --keys "$keys"
secret farflung-learner-keys --from-file="$keys/learner.key" --from-file="$keys/authorized"
secret farflung-actor-key --from-file=actor.key="$keys/fleet.key"
