#!/usr/bin/env bash
# A cloud of files: what gcloud does for launch/tpu_vm.sh, on this machine.
#
# A folder, $FAKE, holds the cloud:
#
#   node, request  the state of the TPU VM and of its queued resource
#   type           of the TPU VM
#   requests       states that a new request will have, one at a look
#   nodes          states that the TPU VM will have, one at a look
#   worker-0, -1   homes of the workers, where their commands are really run
#   calls          a line a call, as a shell would read it
#   refusal        what "create" fails with
#   denied         what "describe" fails with
#   unreachable    as many calls of ssh as it has lines fail
#   undeletable    what "delete" fails with
#   drop           the next log that is followed breaks off after a moment
set -uo pipefail

fail() {
  echo "ERROR: (gcloud) $*" >&2
  exit 1
}

# Prints the first line of a file, and takes it out.
pop() {
  [ -s "$FAKE/$1" ] || return 1
  head -n 1 "$FAKE/$1"
  sed -i 1d "$FAKE/$1"
}

describe() {
  local following file=node
  if [ -e "$FAKE/denied" ]; then fail "$(cat "$FAKE/denied")"; fi
  if [ "$1" = queued-resources ]; then file=request; fi
  if [ -e "$FAKE/$file" ] && [ $file = request ] &&
    following=$(pop requests); then
    echo "$following" >"$FAKE/request"
    if [ "$following" = ACTIVE ]; then
      mkdir "$FAKE/worker-0" "$FAKE/worker-1"
      echo READY >"$FAKE/node"
    fi
  fi
  if [ -e "$FAKE/$file" ] && [ $file = node ] && following=$(pop nodes); then
    echo "$following" >"$FAKE/node"
  fi
  [ -e "$FAKE/$file" ] || fail 'NOT_FOUND: Resource was not found'
  case $* in
    *failedData*) echo 'no quota for this' ;;
    tpu-vm*) printf '%s\t%s\n' "$(cat "$FAKE/node")" "$(cat "$FAKE/type")" ;;
    *) cat "$FAKE/request" ;;
  esac
}

create() {
  if [ -e "$FAKE/refusal" ]; then fail "$(cat "$FAKE/refusal")"; fi
  if [ -e "$FAKE/request" ] || [ -e "$FAKE/node" ]; then fail ALREADY_EXISTS; fi
  flag accelerator-type "$@" >"$FAKE/type"
  echo CREATING >"$FAKE/request"
  if [ ! -s "$FAKE/requests" ]; then
    printf '%s\n' WAITING_FOR_RESOURCES ACTIVE >"$FAKE/requests"
  fi
}

delete() {
  local pid
  if [ -e "$FAKE/undeletable" ]; then fail "$(cat "$FAKE/undeletable")"; fi
  if [ "$1" = tpu-vm ] && [ -e "$FAKE/request" ]; then fail 'it is held'; fi
  for pid in "$FAKE"/worker-*/s2d/pid; do
    if [ -e "$pid" ]; then kill -KILL -- "-$(cat "$pid")" 2>/dev/null; fi
  done
  rm -rf "$FAKE/node" "$FAKE/request" "$FAKE"/worker-*
}

scp() {
  local worker
  for worker in 0 1; do cp "$1" "$FAKE/worker-$worker/"; done
}

ssh() {
  local worker command pids=() status=0
  command=$(flag command "$@")
  if [ "$(cat "$FAKE/node")" != READY ] || pop unreachable >/dev/null; then
    fail 'ssh: connect to host 10.0.0.1 port 22: Connection timed out'
  fi
  for worker in 0 1; do
    (
      export HOME=$FAKE/worker-$worker WORKER=$worker
      cd "$HOME" && exec bash -c "$command"
    ) &
    pids+=($!)
  done
  if [ -e "$FAKE/drop" ] && [[ $command = *follow* ]]; then
    rm "$FAKE/drop"
    sleep 0.3
    kill "${pids[@]}"
    exit 255
  fi
  for worker in "${pids[@]}"; do wait "$worker" || status=$?; done
  exit "$status"
}

flag() {
  local word name=$1
  for word in "$@"; do
    case $word in "--$name="*) echo "${word#*=}" ;; esac
  done
}

printf '%q ' "$@" >>"$FAKE/calls"
echo >>"$FAKE/calls"
kind=$3 verb=$4
shift 4
case $verb in
  describe | delete) "$verb" "$kind" "$@" ;;
  *) "$verb" "$@" ;;
esac
