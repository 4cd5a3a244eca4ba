"""Manifests against the published models of JobSet and of Kubernetes."""

from __future__ import annotations

import math
import pathlib
import re

from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import (
  JobsetV1alpha2JobSet,
)
import kubernetes_validate
import pytest
import yaml

from s2d_jax.errors import UserError
from s2d_jax.parallel.topology import CHIPS

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAM = _ROOT / "launch" / "gke" / "manifest.py"
_COMMAND = ("s2d", "sample", "--config=configs/run.py", "--workdir=gs://b/run")
_FLAGS = ("--name=run", "--image=lab/s2d:1")


@pytest.fixture(scope="module")
def manifest():
  """The program as a module; it is in no package."""
  scope = {"__name__": "manifest", "__file__": str(_PROGRAM)}
  exec(compile(_PROGRAM.read_text(), _PROGRAM, "exec"), scope)
  return scope


@pytest.fixture
def made(manifest, capsys):
  """What the program prints, read back."""

  def make(*flags: str, command=_COMMAND) -> dict:
    manifest["main"]([*_FLAGS, *flags, "--", *command])
    return yaml.safe_load(capsys.readouterr().out)

  return make


def _job(jobset: dict) -> dict:
  (replicated,) = jobset["spec"]["replicatedJobs"]
  return replicated["template"]["spec"]


def _pod(jobset: dict) -> dict:
  return _job(jobset)["template"]["spec"]


# From the tables of https://cloud.google.com/tpu/docs/v4, v5e, v5p and v6e.
@pytest.mark.parametrize(
  "accelerator, label, shape, hosts, chips",
  [
    ("v4-8", "tpu-v4-podslice", "2x2x1", 1, 4),
    ("v4-16", "tpu-v4-podslice", "2x2x2", 2, 4),
    ("v4-512", "tpu-v4-podslice", "4x8x8", 64, 4),
    ("v5litepod-8", "tpu-v5-lite-podslice", "2x4", 1, 8),
    ("v5litepod-16", "tpu-v5-lite-podslice", "4x4", 4, 4),
    ("v5litepod-256", "tpu-v5-lite-podslice", "16x16", 64, 4),
    ("v5p-32", "tpu-v5p-slice", "2x2x4", 4, 4),
    ("v5p-64", "tpu-v5p-slice", "2x4x4", 8, 4),
    ("v5p-128", "tpu-v5p-slice", "4x4x4", 16, 4),
    ("v5p-256", "tpu-v5p-slice", "4x4x8", 32, 4),
    ("v5p:4x4x12", "tpu-v5p-slice", "4x4x12", 48, 4),
    ("v6e-4", "tpu-v6e-slice", "2x2", 1, 4),
    ("v6e-32", "tpu-v6e-slice", "4x8", 8, 4),
    ("v6e-128", "tpu-v6e-slice", "8x16", 32, 4),
  ],
)
def test_a_slice_is_as_google_cloud_makes_it(
  made, accelerator, label, shape, hosts, chips
):
  jobset = made(f"--type={accelerator}")
  pod = _pod(jobset)
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": label,
    "cloud.google.com/gke-tpu-topology": shape,
  }
  assert _job(jobset)["completions"] == _job(jobset)["parallelism"] == hosts
  (container,) = pod["containers"]
  assert container["resources"]["limits"] == {"google.com/tpu": chips}
  assert hosts * chips == math.prod(map(int, shape.split("x")))


def test_every_kind_of_chip_has_a_label(manifest):
  kinds = set(CHIPS) - {"v2", "v3"}  # of notebooks; they are planned for only
  assert set(manifest["_ACCELERATORS"]) == kinds
  assert {kind for kind, _ in manifest["_FAMILIES"].values()} == kinds


_EVERYTHING = (
  "--type=v6e-16",
  "--slices=2",
  "--spot",
  "--bucket=weights",
  "--service-account=trainer",
  "--secret=hub",
  "--max-restarts=7",
)


@pytest.mark.parametrize("flags", [("--type=v5p-16",), _EVERYTHING])
def test_jobset_and_kubernetes_accept_it(made, flags):
  jobset = made(*flags)
  # The models drop what they do not know: a misspelt field would be gone.
  assert JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset
  job = {"apiVersion": "batch/v1", "kind": "Job"}
  job |= {"metadata": {"name": "run"}, "spec": _job(jobset)}
  kubernetes_validate.validate(job, "1.32", strict=True)


def test_a_lost_pod_restarts_all_and_a_mistake_ends_all(made):
  jobset = made(*_EVERYTHING)
  policy = jobset["spec"]["failurePolicy"]
  assert policy["maxRestarts"] == 7
  (rule,) = policy["rules"]
  assert rule["action"] == "FailJobSet"
  # A Job fails for this reason by its podFailurePolicy alone, and that asks for
  # the statuses of mistakes; 134, 137 and 143 are those of lost hosts.
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  (mistakes,) = _job(jobset)["podFailurePolicy"]["rules"]
  assert mistakes["action"] == "FailJob"
  assert mistakes["onExitCodes"]["values"] == [1, 2, 126, 127]
  assert _job(jobset)["backoffLimit"] == 0
  assert _pod(jobset)["restartPolicy"] == "Never"


def test_what_is_asked_for_is_in_it(made):
  jobset = made(*_EVERYTHING)
  pod = _pod(jobset)
  assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 2
  assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
  assert pod["serviceAccountName"] == "trainer"
  (container,) = pod["containers"]
  assert container["command"] == list(_COMMAND)
  assert container["envFrom"] == [{"secretRef": {"name": "hub"}}]
  assert container["volumeMounts"][0]["mountPath"] == "/gcs/weights"


@pytest.mark.parametrize(
  "flags, command, sentence",
  [
    (("--type=v5p-9",), _COMMAND, "--type=v5p-9 has no one shape"),
    (("--type=h100-8",), _COMMAND, "is not of v4-N, v5litepod-N"),
    (("--type=v5p:4x4",), _COMMAND, "has 2 sizes, a slice of v5p has 3"),
    (("--type=v3:2x2",), _COMMAND, "is not of v4-N, v5litepod-N"),
    (("--type=v6e-2",), _COMMAND, "does not divide into hosts"),
    (("--type=v5p-8", "--name=A"), _COMMAND, "--name=A: at most 40"),
    (("--type=v5p-8",), (), "say what to run behind a lone --"),
    (("--type=v5p-8",), _COMMAND[:3], "give the command a --workdir=gs://"),
    (("--type=v5p-8", "--bucket=gs://b"), _COMMAND, "its name alone"),
    (("--type=v5p-8", "--slices=0"), _COMMAND, "numbers of at least"),
    ((), _COMMAND, "--type"),
    (("--type=v5p-8", "--sopt"), _COMMAND, "--sopt"),
  ],
)
def test_a_wrong_flag_is_one_sentence(
  manifest, capsys, flags, command, sentence
):
  with pytest.raises(SystemExit) as ended:
    manifest["main"]([*_FLAGS, *flags, "--", *command])
  assert ended.value.code == 1
  out, err = capsys.readouterr()
  assert not out
  assert sentence in err
  assert err.startswith("error: ") and err.count("\n") == 1


def test_topologies_are_named_as_s2d_plan_names_them(manifest):
  assert manifest["topology_of"]("v5p-128").name == "v5p:4x4x4"
  with pytest.raises(UserError):
    manifest["topology_of"]("v5p:4x3x4")


def test_the_image_has_the_package_with_the_tpu_extra():
  """No Docker here: its lines are looked at."""
  text = (_ROOT / "launch" / "gke" / "Dockerfile").read_text()
  lines = re.findall(r"^(FROM|WORKDIR|COPY|RUN) (.*)$", text, re.MULTILINE)
  assert [word for word, _ in lines] == ["FROM", "WORKDIR", "COPY", "RUN"]
  version = re.fullmatch(r"python:(3\.\d+)-slim", lines[0][1])[1]
  supported = re.search(
    r'python_requires=">=(3\.\d+)"', (_ROOT / "setup.py").read_text()
  )[1]
  assert tuple(map(int, version.split("."))) >= tuple(
    map(int, supported.split("."))
  )
  assert lines[3][1].endswith("'.[tpu]'")
