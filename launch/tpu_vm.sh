#!/usr/bin/env bash
# Runs s2d_jax on a TPU pod until it is complete; --help says how.
#
# For bash 3.2 and later, which is what macOS has.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
poll=${S2D_POLL_SECONDS:-30} # between two looks at what takes minutes
patience=3                   # failures in a row before it stops
# The stages that run on all hosts of a pod.
stages='prepare sample select curate evaluate retention finetune gate report pipeline contamination study'

name='' zone='' project='' type='' runtime='' ref=HEAD setup=''
minutes=60 # of waiting
tier='' tier_flag='' keep='' dry_run=''
names=() create_flags=() command=()
commit='' folder='' internal=''
# What has been seen so far: the TPU exists, was ready once, its workers have
# answered, the command has run before our eyes.
exists='' had='' connected='' watched=''
resource='' state='' told='' waiting='' silent='' mishaps=0 follower=''

usage() {
  cat <<'END'
Runs s2d_jax on a TPU pod until it is complete.

launch/tpu_vm.sh --name=NAME --zone=ZONE --project=PROJECT --type=TYPE \
  [flags] -- s2d pipeline --config=… --workdir=gs://BUCKET/RUN

Asks for the TPU with a queued resource and waits for it, installs this
checkout's commit on all workers, starts the command on all of them and shows
their logs. After a preemption the TPU is made again and the same command goes
on where it was. When the command is complete the TPU is deleted. What is wrong
with the command itself (a status from 1 to 127) is told, and not tried again,
but for 75: its hosts did not find each other.

The command runs on without this program: close the laptop, and start the same
line again to look at it. Ctrl-C asks whether to delete the TPU.

flags:
  --name=NAME        of the queued resource and of its TPU VM
  --zone=ZONE        for instance us-east5-a
  --project=PROJECT  of Google Cloud
  --type=TYPE        accelerator type: v4-64, v5litepod-64, v5p-128, v6e-64 …
  --on-demand        (default) wait for a TPU that is kept
  --spot             a cheaper one, that may be taken away at any time
  --reserved         one of a reservation
  --ref=REF          git commit, tag or branch to install; default: HEAD
  --env=VARIABLE     hand a variable of this shell to the workers, as HF_TOKEN;
                     may be repeated
  --setup=COMMAND    run on each worker before each start, with s2d installed:
                     to fetch weights, for instance
  --runtime=VERSION  TPU software; default: what suits the type
  --create-flag=FLAG for "gcloud compute tpus queued-resources create", as it
                     is: --create-flag=--network=NETWORK; may be repeated
  --wait=MINUTES     how long to wait for a TPU in a state that should pass by
                     itself, for workers that answered before, or for an answer
                     of the cloud; then it stops and says so. Default: 60. A
                     request waits in the queue as long as it takes
  --keep             do not delete the TPU when the command is complete
  --dry-run          print the commands, run none
  --help             this

Needs the gcloud command, logged in (gcloud auth login), and a key that ssh
takes without asking: ssh-add ~/.ssh/google_compute_engine. --multihost is added
to a stage of s2d, by which its processes find each other.
END
}

say() { printf 'tpu_vm: %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# ---------------------------------------------------------------- the flags

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --name=*) name=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --type=*) type=${1#*=} ;;
      --on-demand | --spot | --reserved) set_tier "$1" ;;
      --ref=*) ref=${1#*=} ;;
      --env=*) names+=("${1#*=}") ;;
      --setup=*) setup=${1#*=} ;;
      --runtime=*) runtime=${1#*=} ;;
      --create-flag=*) create_flags+=("${1#*=}") ;;
      --wait=*) minutes=${1#*=} ;;
      --keep) keep=yes ;;
      --dry-run) dry_run=yes ;;
      --) shift && break ;;
      *) fail "$1 is not a flag of tpu_vm.sh (a value follows a =, what is to" \
        "run follows a lone --); --help lists them" ;;
    esac
    shift
  done
  if [ $# -gt 0 ]; then command=("$@"); fi
}

set_tier() {
  if [ -n "$tier" ] && [ "$tier" != "$1" ]; then
    fail "$tier and $1 exclude each other; give one"
  fi
  tier=$1
  if [ "$1" != --on-demand ]; then tier_flag=$1; fi
}

check_flags() {
  local flag
  for flag in name zone project type; do
    [ -n "${!flag}" ] || fail "give --$flag=…; --help shows an example"
  done
  case $name in
    [!a-z]* | *[!a-z0-9-]* | *-) fail "--name=$name: only a-z, 0-9 and -," \
      "a letter first and no - last" ;;
  esac
  case $minutes in
    '' | *[!0-9]*) fail "--wait=$minutes must be a number of minutes" ;;
  esac
  : "${runtime:=$(runtime_of "$type")}"
  [ -n "$runtime" ] || exit 1
  for flag in ${names[@]+"${names[@]}"}; do
    case $flag in
      '' | [0-9]* | *[!A-Za-z0-9_]*) fail "--env=$flag is not a name; the" \
        "value is taken from this shell" ;;
    esac
    [ -n "${!flag+set}" ] || fail "--env=$flag: $flag is not set here"
  done
  for flag in ${create_flags[@]+"${create_flags[@]}"}; do
    if [ "$flag" = --internal-ips ]; then internal=--internal-ip; fi
  done
}

# The images that https://cloud.google.com/tpu/docs/runtimes names for JAX.
runtime_of() {
  case $1 in
    v6e-[0-9]*) echo v2-alpha-tpuv6e ;;
    v5p-[0-9]*) echo v2-alpha-tpuv5 ;;
    v5litepod-[0-9]*) echo v2-alpha-tpuv5-lite ;;
    v4-[0-9]*) echo tpu-ubuntu2204-base ;;
    v5e-[0-9]*) fail "--type=$1: Cloud TPU calls it v5litepod-${1#v5e-}" ;;
    *) fail "--type=$1 is not of v4-N, v5litepod-N, v5p-N, v6e-N; for another" \
      "give --runtime too" ;;
  esac
}

check_command() {
  [ ${#command[@]} -gt 0 ] || fail "say what to run behind a lone --, for" \
    "instance -- s2d pipeline --config=… --workdir=gs://BUCKET/RUN"
  commit=$(git -C "$here" rev-parse --verify --quiet "$ref^{commit}") ||
    fail "--ref=$ref: the checkout of $here has no such commit"
  if [ "${command[0]}" = s2d ]; then check_stage; fi
}

# Before a pod is waited for and paid.
check_stage() {
  local stage=${command[1]-} argument config='' workdir='' joined=''
  case " $stages " in
    *" $stage "*) ;;
    *) fail "s2d $stage is not for all hosts of a pod; these are: $stages" ;;
  esac
  for argument in "${command[@]}"; do
    case $argument in
      --config=*) config=${argument#*=} ;;
      --workdir=*) workdir=${argument#*=} ;;
      --multihost | --nomultihost | --coordinator=*) joined=yes ;;
    esac
  done
  check_config "$config"
  case $workdir in
    gs://?* | /*) ;;
    *) fail "--workdir=$workdir must be a folder that all hosts see and that" \
      "outlives them: gs://BUCKET/RUN" ;;
  esac
  if [ -z "$joined" ]; then command+=(--multihost); fi
}

check_config() {
  local path=${1%%:*}
  [ -n "$path" ] || fail "give --config=FILE to s2d, a file of the checkout"
  git -C "$here/.." cat-file -e "$commit:./$path" 2>/dev/null ||
    fail "--config=$path is not in commit $(short) ($ref), which is what the" \
      "workers get; commit it, or give its path from the top of the checkout"
}

short() { printf '%.10s' "$commit"; }

# ------------------------------------------------------------- gcloud calls

# A word as a shell reads it.
quoted() {
  case $1 in
    '' | *[!A-Za-z0-9_./:=,@%+-]*)
      printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
      ;;
    *) printf %s "$1" ;;
  esac
}

line_of() {
  local word between=''
  for word in "$@"; do
    printf %s "$between"
    quoted "$word"
    between=' '
  done
  echo
}

# Every call goes through here. The place stands behind the arguments.
tpus() {
  set -- compute tpus "$@" --zone="$zone" --project="$project" --quiet
  if [ -n "$dry_run" ]; then
    line_of gcloud "$@"
  else
    gcloud "$@"
  fi
}

describe_node() {
  tpus tpu-vm describe "$name" \
    --format='value(state,acceleratorType.basename())'
}

describe_request() {
  tpus queued-resources describe "$name" --format='value(state.state)'
}

# Why a request has failed.
describe_failure() {
  tpus queued-resources describe "$name" \
    --format='value(state.failedData.error.message)'
}

create() {
  tpus queued-resources create "$name" --node-id="$name" \
    --accelerator-type="$type" --runtime-version="$runtime" --async \
    ${tier_flag:+"$tier_flag"} ${create_flags[@]+"${create_flags[@]}"}
}

delete_request() { tpus queued-resources delete "$name" --force; }

delete_node() { tpus tpu-vm delete "$name"; }

copy_job() {
  tpus tpu-vm scp "$folder/s2d-job.tar" "$name:" --worker=all \
    ${internal:+"$internal"}
}

# ssh asks nothing, and notices when a worker is gone.
on_workers() {
  tpus tpu-vm ssh "$name" --worker=all --command="$1" \
    --ssh-flag=-oBatchMode=yes --ssh-flag=-oServerAliveInterval=30 \
    ${internal:+"$internal"}
}

unpack_and_install() {
  on_workers 'mkdir -p s2d && rm -f s2d/pid s2d/status &&'\
' tar -xf s2d-job.tar -C s2d && rm s2d-job.tar && bash s2d/worker.sh install'
}

ask_state() {
  on_workers 'if [ -f s2d/worker.sh ]; then bash s2d/worker.sh state;'\
' else echo s2d-state - absent -; fi'
}

start_workers() { on_workers 'bash s2d/worker.sh start'; }

stop_workers() { on_workers 'bash s2d/worker.sh stop'; }

ask_sentence() { on_workers 'bash s2d/worker.sh sentence'; }

show_logs() { on_workers "bash s2d/worker.sh follow $1"; }

# Runs a call; what it says goes to a file.
quietly() { "$@" >"$folder/said" 2>&1; }

last_said() { tail -n 1 "$folder/said"; }

# ------------------------------------------------------------- the resource

# Sets `resource` to node:…, request:… (with the state), absent or unseen.
look_at_resource() {
  local found
  if found=$(describe_node 2>"$folder/said"); then
    exists=yes
    resource=node:${found%%[[:space:]]*}
    check_type "${found#"${found%%[[:space:]]*}"}"
  elif ! is_absent; then
    resource=unseen
  elif found=$(describe_request 2>"$folder/said"); then
    exists=yes
    resource=request:$found
  elif is_absent; then
    exists=''
    resource=absent
  else
    resource=unseen
  fi
}

# What to do in every state that the API documents, of nodes and of requests:
# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes
# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.queuedResources
action_in() {
  case $1 in
    absent) echo ask ;;
    unseen) echo look_again ;;
    node:READY) echo use ;;
    node:CREATING | node:STARTING | node:RESTARTING | node:REIMAGING) echo wait ;;
    node:REPAIRING | node:UNHIDING | node:STATE_UNSPECIFIED) echo wait ;;
    node:STOPPING | node:HIDING | node:DELETING) echo wait ;;
    node:PREEMPTED | node:TERMINATED) echo make_again ;;
    node:UNKNOWN) echo replace_broken ;; # after a repair that failed
    node:STOPPED | node:HIDDEN) echo stop ;;
    request:ACCEPTED | request:WAITING_FOR_RESOURCES) echo queue ;;
    request:CREATING | request:PROVISIONING) echo wait ;;
    request:STATE_UNSPECIFIED) echo wait ;;
    request:SUSPENDING | request:DELETING) echo wait ;;
    request:ACTIVE) echo expect_node ;;
    request:SUSPENDED) echo make_again ;;
    request:FAILED) echo ask_again ;;
    *) echo wait ;; # a state that is new
  esac
}

is_absent() { grep -qiE 'NOT_FOUND|not found' "$folder/said"; }

check_type() {
  local found
  found=$(printf %s "$1" | tr -d '[:space:]')
  if [ -n "$found" ] && [ "$found" != "$type" ]; then
    fail "$name is there and is a $found, not a $type; give another --name" \
      "or delete it"
  fi
}

# Returns when the TPU is ready, whatever has to be done for that.
have_resource() {
  while :; do
    look_at_resource
    case $(action_in "$resource") in
      use) had=yes told='' waiting='' && return ;;
      ask) request ;;
      queue) waiting='' && wait_in "${resource#*:}" ;;
      wait) wait_at_most "${resource#*:}" ;;
      make_again) taken_away ;;
      replace_broken) replace_broken ;;
      ask_again) give_up_request ;;
      expect_node) expect_node ;;
      look_again) look_again ;;
      stop) give_up "$name is ${resource#*:} and will not change by itself;" \
        'start it (gcloud compute tpus tpu-vm start) or delete it' ;;
    esac
  done
}

# Later the network may have gone; at first it is a wrong project or account.
look_again() {
  if [ -z "$had" ]; then fail "$name cannot be looked at: $(last_said)"; fi
  wait_at_most "unknown ($(last_said))"
}

taken_away() {
  if renew 'was taken away'; then mishaps=0; fi
}

replace_broken() {
  mishap "$name is in an unknown state after a repair that failed"
  renew 'is broken' || true
}

# An active request without its TPU has lost it, unless that has come just now.
expect_node() {
  if [ "$told" = ACTIVE ]; then taken_away; else wait_in ACTIVE; fi
}

request() {
  say "asking for $type ${tier:---on-demand} in $zone"
  exists=yes # also if Ctrl-C comes now
  if quietly create; then return; fi
  exists=''
  # What has never worked is a mistake of the asker's; else it may work later.
  if [ -z "$had" ]; then fail "$name cannot be made: $(last_said)"; fi
  mishap "$name cannot be made again: $(last_said)"
}

give_up_request() {
  local reason
  reason=$(describe_failure 2>/dev/null || true)
  mishap "the request for $name has failed: ${reason:-no reason is given}"
  renew 'has failed' || true
}

# Fails if what is there cannot be deleted.
renew() {
  say "$name $1; making it again"
  had=yes waiting=''
  if delete_resource; then return; fi
  mishap "$name cannot be deleted: $(last_said)"
  return 1
}

delete_resource() {
  if describe_request >"$folder/said" 2>&1; then
    quietly delete_request
  else
    quietly delete_node
  fi
}

wait_in() {
  if [ "$told" != "$1" ]; then say "$name: $1"; fi
  told=$1
  pause "$poll"
}

# What may still come to something is not deleted.
wait_at_most() {
  if [ -z "$waiting" ]; then waiting=$SECONDS; fi
  wait_in "$1"
  if is_over "$waiting"; then
    give_up "$name has not been ready for $minutes minutes, and is $1; look at" \
      'it in the console, then wait longer (--wait) or delete it'
  fi
}

is_over() { [ $((SECONDS - $1)) -ge $((60 * minutes)) ]; }

# In the background, so that Ctrl-C need not wait for it.
pause() {
  sleep "$1" >/dev/null 2>&1 &
  wait $!
}

# -------------------------------------------------------------- the program

# What is copied to each worker.
pack_job() {
  local variable
  git -C "$here/.." archive --format=tar --output="$folder/source.tar" "$commit"
  echo "$commit" >"$folder/commit"
  git -C "$here" show -s --format=%cI "$commit" >"$folder/date"
  line_of "${command[@]}" >"$folder/command"
  printf '%s\n' "$setup" >"$folder/setup"
  {
    # shellcheck disable=SC2016
    echo 'export PATH=$PWD/venv/bin:$PATH'
    for variable in ${names[@]+"${names[@]}"}; do
      printf 'export %s=%s\n' "$variable" "$(quoted "${!variable}")"
    done
  } >"$folder/env"
  cp "$here/worker.sh" "$folder/worker.sh"
  (cd "$folder" && COPYFILE_DISABLE=1 tar -cf s2d-job.tar \
    commit date source.tar command setup env worker.sh)
}

# Sets `state` to what the workers together are: unreachable, absent, running,
# partly (some run), complete, interrupted, crashed or failed.
look_at_program() {
  state=unreachable
  ask_state >"$folder/states" 2>"$folder/said" || return 0
  connected=yes silent=''
  state=$(awk '$1 == "s2d-state" { print $3 }' "$folder/states" | sort -u |
    awk '{ found[$1]; if ($1 + 0 > 0) failed = 1 }
      $1 + 0 > 127 || $1 == 75 { crashed = 1 } # 75: hosts did not answer
      END {
        if ("running" in found) print NR == 1 ? "running" : "partly"
        else if (NR == 0 || "absent" in found) print "absent"
        else if ("lost" in found || "143" in found) print "interrupted"
        else if (crashed) print "crashed"
        else if (failed) print "failed"
        else print "complete"
      }')
}

# Whether the workers were told to run something else.
is_another() {
  local ours
  ours=$(cksum <"$folder/command" | cut -d' ' -f1)
  awk -v ours="$ours" '
    $1 == "s2d-state" && $3 != "absent" && $4 != ours { found = 1 }
    END { exit !found }' "$folder/states"
}

start() {
  say "installing commit $(short) on the workers"
  if ! quietly copy_job || ! quietly unpack_and_install; then
    tail -n 5 "$folder/said" >&2
    mishap "$name cannot be set up: $(last_said)"
    return
  fi
  say "starting $(line_of "${command[@]}")"
  if quietly start_workers; then
    follow start
  else
    say "not all workers could be told to start: $(last_said)"
  fi
}

# In a process group of its own, so that Ctrl-C ends it whole.
follow() {
  watched=yes
  set -m
  show_logs "$1" </dev/null &
  follower=$!
  set +m
  wait "$follower" || true # the program has ended, or the connection has
  follower=''
}

# They end together, but not at one moment.
settle() {
  say 'some workers have ended; waiting for the others'
  for _ in 1 2 3 4 5 6; do
    pause "$poll"
    look_at_program
    if [ "$state" != partly ]; then return; fi
  done
  say 'stopping the workers that are left'
  quietly stop_workers || true
  look_at_program
}

# Returns when the command is complete.
see_through() {
  until [ "$state" = complete ]; do
    have_resource
    look_at_program
    if [ "$state" = partly ]; then settle; fi
    case $state in
      unreachable) reach ;;
      *) if is_another; then replace; else proceed; fi ;;
    esac
  done
}

# The program runs on meanwhile, if it ran.
reach() {
  if [ -z "$connected" ]; then
    mishap "the workers cannot be reached by ssh: $(last_said)"
    return
  fi
  if [ -z "$silent" ]; then
    say "$name: not reached by ssh ($(last_said))"
    silent=$SECONDS
  fi
  if is_over "$silent"; then
    give_up "$name is ready, but its workers have not answered ssh for" \
      "$minutes minutes ($(last_said)); the command may still run there"
  fi
  pause "$poll"
}

replace() {
  case $state in
    running | partly) give_up "another command runs on $name; wait for it," \
      "stop it (tpu-vm ssh … --command='bash s2d/worker.sh stop'), or give" \
      'another --name' ;;
  esac
  state=absent
  start
}

proceed() {
  case $state in
    running) attach ;;
    complete) ;;
    interrupted) again 'was interrupted' ;;
    crashed) crashed ;;
    failed) if [ -n "$watched" ]; then failed; else start; fi ;;
    *) start ;;
  esac
}

attach() {
  if [ -n "$watched" ]; then pause "$poll"; fi
  say "the command runs on $name; its log goes on"
  follow 20
}

again() {
  say "the command $1; starting it again"
  mishaps=0
  start
}

crashed() {
  if [ -n "$watched" ]; then mishap "the command crashed ($(told_by_workers))"; fi
  start
}

failed() {
  give_up "the command cannot go on: $(told_by_workers)"
}

# The sentences of the workers without repetition; errors before anything else.
told_by_workers() {
  ask_sentence 2>/dev/null | sort -u >"$folder/sentences" || true
  if grep -q '^error: ' "$folder/sentences"; then
    grep '^error: ' "$folder/sentences" | sed -e 's/^error: //' -e 2q
  else
    sed 2q "$folder/sentences"
  fi
}

# ------------------------------------------------------------------ the end

# What only time or a person can put right is not tried for ever.
mishap() {
  mishaps=$((mishaps + 1))
  if [ "$mishaps" -ge "$patience" ]; then
    give_up "$* ($mishaps times in a row)"
  fi
  say "$*; trying again"
  pause "$poll"
}

give_up() {
  printf 'error: %s\n' "$*" >&2
  remains
  exit 1
}

remains() {
  if [ -z "$exists" ]; then return; fi
  say "$name is still there, and costs. Start the line again, corrected if need be; or"
  say "look: $(dry_run=yes on_workers 'cat s2d/log')"
  say "delete: $(dry_run=yes delete_request)"
}

interrupted() {
  trap 'echo >&2; remains; exit 130' INT
  stop_following
  echo >&2
  if [ -z "$exists" ]; then exit 130; fi
  printf '%s goes on without this program. Delete it? [y/N] ' "$name" >&2
  local answer=''
  read -r answer || echo >&2
  case $answer in
    [yY]*) delete_resource && say "$name is deleted" ;;
    *) remains ;;
  esac
  exit 130
}

stop_following() {
  if [ -n "$follower" ]; then kill -TERM -- "-$follower" 2>/dev/null || true; fi
  follower=''
}

finish() {
  if [ -n "$keep" ] || ! quietly describe_request; then
    say 'complete' # and what was not asked for here is not taken away
    remains
  elif delete_resource; then
    say "complete; $name is deleted"
  else
    exists=yes
    give_up "the command is complete, but $name could not be deleted"
  fi
}

clean_up() {
  stop_following
  rm -rf "$folder"
}

# In the order in which they would be called if nothing went wrong.
print_calls() {
  folder=${TMPDIR:-/tmp}
  echo "# commit $commit"
  echo "# on the workers: $(line_of "${command[@]}")"
  echo '# Is it there? If not, ask for it, and look until it is ready.'
  describe_node
  describe_request
  create
  describe_failure
  echo '# Does the command run? If not, install and start it.'
  ask_state
  copy_job
  unpack_and_install
  start_workers
  echo '# Show the logs; how did it end? After a preemption: from the top.'
  show_logs start
  ask_state
  ask_sentence
  stop_workers
  if [ -n "$keep" ]; then return; fi
  echo '# It is complete.'
  delete_request
  delete_node
}

main() {
  parse "$@"
  check_flags
  check_command
  if [ -n "$dry_run" ]; then
    print_calls
    return
  fi
  builtin command -v gcloud >/dev/null || fail 'gcloud is not on this machine:' \
    'https://cloud.google.com/sdk/docs/install'
  git -C "$here/.." diff --quiet HEAD || say 'what is not committed stays here'
  umask 077
  folder=$(mktemp -d)
  trap clean_up EXIT
  trap interrupted INT
  trap 'remains; exit 143' HUP TERM
  pack_job
  see_through
  finish
}

main "$@"
