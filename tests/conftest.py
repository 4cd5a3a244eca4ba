"""How tests are compiled, and models that many of them share."""

from __future__ import annotations

from collections.abc import Iterator
import gc
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import pytest

from s2d_jax.checkpoints import names, pretrained
from s2d_jax.errors import UserError
from s2d_jax.models.config import ModelConfig, alike
from s2d_jax.parallel.mesh import make_mesh
from tests.bucket import Bucket, Server, served
from tests.random_model import random_params

_HERE = pathlib.Path(__file__).parent
_DAY = 24 * 60 * 60
# Without what makes programs fast, and compiling them three times as slow.
_XLA_FLAGS = (
  "--xla_cpu_use_fusion_emitters=false",
  "--xla_cpu_parallel_codegen_split_count=1",
)

# The slowest first: a worker that comes to one of them last ends alone. The
# first two have little in common, or both workers would compile the same.
_SLOWEST = (
  "stages/test_hosts.py",
  "stages/test_pairs.py",
  "stages",
  "training",
  "generation",
  "models",
  "checkpoints",
  "parallel",
)


def pytest_addoption(parser):
  told = "compile programs as for users, which takes five times as long"
  parser.addoption("--optimised", action="store_true", help=told)


def pytest_configure(config):
  """Programs are compiled quickly rather than well, and once for all processes.

  They stay in pytest's cache for a day: workers find them there, the processes
  that tests start, and the next run.
  """
  if hasattr(config, "workerinput"):
    return  # has it all from the environment
  if not config.getoption("optimised"):
    _configure_jax(jax_disable_most_optimizations=True)
    if "XLA_FLAGS" not in os.environ and _are_known(_XLA_FLAGS):
      os.environ["XLA_FLAGS"] = " ".join(_XLA_FLAGS)
  if config.pluginmanager.hasplugin("cacheprovider"):
    compiled = config.cache.mkdir("compiled")
    for path in compiled.iterdir():
      if path.stat().st_mtime < time.time() - _DAY:
        path.unlink(missing_ok=True)
    _configure_jax(
      jax_compilation_cache_dir=str(compiled),
      jax_persistent_cache_min_compile_time_secs=0.02,
    )


def _are_known(flags: tuple[str, ...]) -> bool:
  """XLA ends a process that gives it a flag of another version."""
  program = "from jaxlib import xla_client; xla_client.CompileOptions()"
  return not subprocess.run(
    [sys.executable, "-c", program],
    env=os.environ | {"XLA_FLAGS": " ".join(flags)},
    capture_output=True,
  ).returncode


def _configure_jax(**settings) -> None:
  """Here, and in the processes that start from here."""
  for name, value in settings.items():
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)


def pytest_collection_modifyitems(items):
  def place(item) -> int:
    path = item.path.relative_to(_HERE)
    for index, name in enumerate(_SLOWEST):
      if path.is_relative_to(name):
        return index
    return len(_SLOWEST)

  items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def garbage():
  """Collected once a file: it would take a tenth of the time of tracing.

  What a file leaves behind mostly stays to the end, and is not looked at again.
  """
  gc.disable()
  yield
  gc.collect()
  gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
  """A test that is marked `optimised` runs in a pytest of its own."""
  config = pyfuncitem.config
  if config.getoption("optimised"):
    return None
  if pyfuncitem.get_closest_marker("optimised") is None:
    return None
  own = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
  ended = subprocess.run(
    [sys.executable, "-m", "pytest", "--optimised", "-n0", pyfuncitem.nodeid],
    cwd=config.rootpath,
    env={name: v for name, v in os.environ.items() if name not in own},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stdout
  return True


class Tiny(NamedTuple):
  config: ModelConfig
  params: dict[str, Any]


@pytest.fixture(scope="session")
def tiny() -> Tiny:
  """Two random layers: grouped heads, an untied head, its own head size."""
  config = ModelConfig(
    vocab_size=128,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    max_context=256,
    pattern=alike(10000.0),
    rms_eps=1e-5,
    tie_embeddings=False,
  )
  return Tiny(config, random_params(config))


@pytest.fixture(scope="session")
def smollm2() -> pretrained.Pretrained:
  """SmolLM2-135M-Instruct as the package index has it, quantised to Q4_1.

  The goldens were made from that very file; by its name one would get the
  weights of the Hub, which are others, on a machine that reaches it.
  """
  try:
    path = names.smollm2_gguf()
  except UserError as error:
    pytest.skip(f"the real model cannot be had: {error}")
  return pretrained.load(path, make_mesh())


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory) -> Iterator[Server]:
  """One for all tests of a process."""
  with served(tmp_path_factory.mktemp("signed_out")) as server:
    yield server


@pytest.fixture
def bucket(bucket_server, monkeypatch) -> Iterator[Bucket]:
  """An empty bucket, which processes that the test starts reach as well."""
  for name, value in bucket_server.environ.items():
    monkeypatch.setenv(name, value)
  yield bucket_server.make()
  bucket_server.faults = None
