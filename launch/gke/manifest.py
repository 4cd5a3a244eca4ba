"""Prints a JobSet that runs a stage of s2d_jax on TPU slices of GKE.

  python launch/gke/manifest.py --name=run --type=v5p-128 --image=IMAGE \\
    [--spot] -- s2d pipeline --config=… --workdir=gs://BUCKET/RUN |
    kubectl apply -f -

A pod that is lost (preempted, evicted, killed) restarts all pods, and the same
command goes on where it was. A mistake of the command's own (status 1) ends the
JobSet. Processes find each other by what GKE puts into their environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import math
import re
import sys
from typing import Any, NoReturn

import yaml

from s2d_jax.errors import UserError
from s2d_jax.parallel import topology as topologies
from s2d_jax.parallel.topology import Topology

# Node labels of https://cloud.google.com/kubernetes-engine/docs/concepts/tpus.
_ACCELERATORS = {
  "v4": "tpu-v4-podslice",
  "v5e": "tpu-v5-lite-podslice",
  "v5p": "tpu-v5p-slice",
  "v6e": "tpu-v6e-slice",
}
# Families of accelerator types: the kind, and what the number counts a chip.
_FAMILIES = {
  "v4": ("v4", 2),
  "v5litepod": ("v5e", 1),
  "v5p": ("v5p", 2),
  "v6e": ("v6e", 1),
}
# A mistake, a wrong word after s2d, and what cannot be started at all.
_MISTAKES = [1, 2, 126, 127]
_SPOT = "cloud.google.com/gke-spot"
_SAVE_SECONDS = 120  # to save at SIGTERM; spot nodes are gone before


def topology_of(accelerator: str, slices: int = 1) -> Topology:
  """`v5p-128`, or `v5p:4x4x4` as `s2d plan` has it, as a `Topology`.

  Raises:
    UserError: there is no such slice.
  """
  if accelerator.partition(":")[0] in _ACCELERATORS:
    return topologies.parse(accelerator, slices)
  found = re.fullmatch(r"([a-z0-9]+)-(\d+)", accelerator)
  if not found or found[1] not in _FAMILIES:
    raise UserError(
      f"--type={accelerator} is not of {', '.join(f'{f}-N' for f in _FAMILIES)}"
      " nor a topology as v5p:4x4x4"
    )
  kind, count = _FAMILIES[found[1]]
  shape = _shape(int(found[2]) / count, topologies.CHIPS[kind].dimensions)
  if shape is None:
    raise UserError(
      f"--type={accelerator} has no one shape; give the topology instead, for"
      " instance --type=v5p:4x4x12"
    )
  return topologies.parse(f"{kind}:{'x'.join(map(str, shape))}", slices)


def _shape(chips: float, dimensions: int) -> tuple[int, ...] | None:
  """What Cloud TPU makes of a power of two: as near to a cube as can be."""
  if chips < 1 or not math.log2(chips).is_integer():
    return None
  if (chips, dimensions) == (4, 3):
    return (2, 2, 1)  # a host
  doublings = int(math.log2(chips))
  return tuple(2 ** ((doublings + i) // dimensions) for i in range(dimensions))


def jobset(
  name: str,
  topology: Topology,
  image: str,
  command: Sequence[str],
  spot: bool = False,
  max_restarts: int = 100,
  bucket: str | None = None,
  service_account: str | None = None,
  secret: str | None = None,
) -> dict[str, Any]:
  """The JobSet, of one Job a slice with one pod a host.

  Args:
    name: of the JobSet.
    topology: the slices.
    image: what launch/gke/Dockerfile has made.
    command: what each pod runs.
    spot: on nodes that may be taken away at any time.
    max_restarts: of all pods, before it is given up.
    bucket: is mounted at /gcs/BUCKET, to read weights from.
    service_account: of Kubernetes, which may use the buckets.
    secret: whose keys become environment variables, as HF_TOKEN.
  """
  hosts = topology.num_hosts // topology.slices
  pod = _pod(topology, image, command)
  if spot:
    pod["nodeSelector"][_SPOT] = "true"
    pod["tolerations"] = [
      {"key": _SPOT, "operator": "Equal", "value": "true"}
      | {"effect": "NoSchedule"}
    ]
  if service_account:
    pod["serviceAccountName"] = service_account
  if secret:
    pod["containers"][0]["envFrom"] = [{"secretRef": {"name": secret}}]
  template: dict[str, Any] = {"spec": pod}
  if bucket:
    _mount(template, bucket)
  job = {
    "parallelism": hosts,
    "completions": hosts,
    "completionMode": "Indexed",
    "backoffLimit": 0,  # one pod alone cannot be restarted
    "podFailurePolicy": {
      "rules": [
        {
          "action": "FailJob",
          "onExitCodes": {
            "containerName": "s2d",
            "operator": "In",
            "values": _MISTAKES,
          },
        }
      ]
    },
    "template": template,
  }
  return {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {
      "name": name,
      "annotations": {
        # A slice is a node pool, and no two Jobs share one.
        "alpha.jobset.sigs.k8s.io/exclusive-topology": (
          "cloud.google.com/gke-nodepool"
        )
      },
    },
    "spec": {
      "failurePolicy": {
        "maxRestarts": max_restarts,
        # What a Job's rule has ended; any other end restarts all.
        "rules": [
          {
            "name": "mistake",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
          }
        ],
      },
      "replicatedJobs": [
        {
          "name": "slice",
          "replicas": topology.slices,
          "template": {"spec": job},
        }
      ],
    },
  }


def _pod(
  topology: Topology, image: str, command: Sequence[str]
) -> dict[str, Any]:
  chips = math.prod(topology.host_shape)
  return {
    "restartPolicy": "Never",
    "terminationGracePeriodSeconds": _SAVE_SECONDS,
    "nodeSelector": {
      "cloud.google.com/gke-tpu-accelerator": _ACCELERATORS[topology.kind],
      "cloud.google.com/gke-tpu-topology": "x".join(map(str, topology.shape)),
    },
    "containers": [
      {
        "name": "s2d",
        "image": image,
        "command": list(command),
        "ports": [{"containerPort": 8471, "protocol": "TCP"}],
        "resources": {
          "requests": {"google.com/tpu": chips},
          "limits": {"google.com/tpu": chips},
        },
      }
    ],
  }


def _mount(template: dict[str, Any], bucket: str) -> None:
  """Has GKE's Cloud Storage FUSE driver show the bucket as a folder."""
  template["metadata"] = {"annotations": {"gke-gcsfuse/volumes": "true"}}
  template["spec"]["containers"][0]["volumeMounts"] = [
    {"name": "bucket", "mountPath": f"/gcs/{bucket}", "readOnly": True}
  ]
  template["spec"]["volumes"] = [
    {
      "name": "bucket",
      "csi": {
        "driver": "gcsfuse.csi.storage.gke.io",
        "readOnly": True,
        "volumeAttributes": {
          "bucketName": bucket,
          "mountOptions": "implicit-dirs",
        },
      },
    }
  ]


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise UserError(f"{message}; --help shows an example")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
  parser = _Parser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--name", required=True, help="of the JobSet")
  parser.add_argument(
    "--type",
    required=True,
    help="of a slice: v4-64, v5litepod-64, v5p-128, v6e-64, or v5p:4x4x12",
  )
  parser.add_argument(
    "--image", required=True, help="that launch/gke/Dockerfile makes"
  )
  parser.add_argument(
    "--slices", type=int, default=1, help="so many of --type; default: 1"
  )
  parser.add_argument(
    "--spot", action="store_true", help="nodes that may be taken away"
  )
  parser.add_argument(
    "--max-restarts",
    type=int,
    default=100,
    help="of all pods, before it is given up; default: 100",
  )
  parser.add_argument(
    "--bucket",
    help="is mounted at /gcs/BUCKET to read weights from; needs the Cloud"
    " Storage FUSE driver in the cluster, and --service-account",
  )
  parser.add_argument(
    "--service-account", help="of Kubernetes, which may use the buckets"
  )
  parser.add_argument(
    "--secret", help="whose keys become environment variables, as HF_TOKEN"
  )
  parser.add_argument("command", nargs="*", help="behind --: what a pod runs")
  return parser.parse_args(argv)


def _check(arguments: argparse.Namespace) -> None:
  # The names of its pods, which are longer, must stay below 64.
  if not re.fullmatch(r"[a-z]([a-z0-9-]{,38}[a-z0-9])?", arguments.name):
    raise UserError(
      f"--name={arguments.name}: at most 40 of a-z, 0-9 and -, a letter first"
      " and no - last"
    )
  if arguments.slices < 1 or arguments.max_restarts < 0:
    raise UserError("--slices and --max-restarts are numbers of at least 1, 0")
  command = arguments.command
  if not command:
    raise UserError(
      "say what to run behind a lone --, for instance -- s2d pipeline"
      " --config=… --workdir=gs://BUCKET/RUN"
    )
  workdir = [word for word in command if word.startswith("--workdir=")]
  if command[0] == "s2d" and not any("gs://" in word for word in workdir):
    raise UserError(
      "give the command a --workdir=gs://BUCKET/RUN, which all pods see and"
      " which outlives them"
    )
  if arguments.bucket and arguments.bucket.startswith("gs://"):
    raise UserError(f"--bucket={arguments.bucket}: its name alone, without gs:")


def main(argv: Sequence[str]) -> None:
  try:
    arguments = _arguments(argv)
    _check(arguments)
    made = jobset(
      arguments.name,
      topology_of(arguments.type, arguments.slices),
      arguments.image,
      arguments.command,
      arguments.spot,
      arguments.max_restarts,
      arguments.bucket,
      arguments.service_account,
      arguments.secret,
    )
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
  print(yaml.safe_dump(made, sort_keys=False), end="")


if __name__ == "__main__":
  main(sys.argv[1:])
