#!/usr/bin/env bash
# What tpu_vm.sh has each worker of a pod do, in a folder of its own:
#
#   bash worker.sh install | start | follow FROM | state | sentence | stop
#
# The folder holds what was copied (commit, date, source.tar, command, env,
# setup) and what comes of it (venv, source, log, pid, status).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PATH=$HOME/.local/bin:$PATH # where pip puts uv

# The image of a TPU VM has Python 3.10; uv brings another. Dependencies are
# those of the commit's date, so a pod that is made again computes the same.
install() {
  if [ "$(cat installed 2>/dev/null)" != "$(cat commit)" ]; then
    rm -rf source venv installed
    mkdir source
    tar -xf source.tar -C source
    command -v uv >/dev/null || python3 -m pip install --quiet --user uv
    uv venv --quiet --python 3.12 venv
    uv pip install --quiet --python venv/bin/python \
      --exclude-newer "$(cat date)" "./source[tpu]"
    cp commit installed
  fi
  within source bash ../setup
}

# Runs a command in a folder, with the program's environment.
within() {
  (
    # shellcheck disable=SC1091
    source ./env
    cd "$1"
    shift
    "$@"
  )
}

# The program outlives the connection that starts it.
start() {
  if is_running; then return; fi
  rm -f status
  touch log
  wc -c <log >began
  setsid nohup bash ./worker.sh run >>log 2>&1 </dev/null &
  echo $! >pid
}

run() {
  trap : TERM # it is for the program; this writes down how that ended
  local status=0
  within source bash ../command || status=$?
  echo "$status" >status.new
  mv status.new status
}

is_running() {
  [ -f pid ] && [ ! -f status ] &&
    grep -qs worker.sh "/proc/$(cat pid)/cmdline"
}

# FROM is "start", or a number of lines to look back.
follow() {
  local since=(-n "$1")
  if [ "$1" = start ]; then since=(-c "+$(($(cat began) + 1))"); fi
  while is_running; do sleep 0.2; done &
  tail "${since[@]}" -s 0.2 --pid=$! -f log | sed -u "s/^/[worker $(index)] /"
}

# Prints "s2d-state WORKER STATE COMMAND", where the state is absent, running,
# the status with which the program ended, or lost if it left none.
state() {
  local found=lost
  if [ ! -f pid ]; then
    found=absent
  elif is_running; then
    found=running
  elif [ -f status ]; then
    found=$(cat status)
  fi
  echo "s2d-state $(index) $found $(cksum ./command | cut -d' ' -f1)"
}

# Why it ended: its own sentence, or the last thing that it said.
sentence() {
  tail -c "+$(($(cat began) + 1))" log |
    awk '/^error: / { told = $0 } NF { last = $0 }
         END { print (told != "") ? told : last }'
}

# The program may take half a minute to save what it has.
stop() {
  if ! is_running; then return; fi
  kill -TERM -- "-$(cat pid)"
  for _ in $(seq 60); do
    if ! is_running; then return; fi
    sleep 0.5
  done
  kill -KILL -- "-$(cat pid)"
}

index() {
  local base=http://metadata.google.internal/computeMetadata/v1/instance
  curl -sf -m 5 -H 'Metadata-Flavor: Google' \
    "$base/attributes/agent-worker-number" || echo '?'
}

"$@"
