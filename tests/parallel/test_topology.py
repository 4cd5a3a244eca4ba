"""A libtpu of another version than JAX is made with."""

from __future__ import annotations

from importlib import metadata

import jax
from packaging.requirements import Requirement
import pytest

from s2d_jax.errors import UserError
from s2d_jax.parallel import topology as topologies

_FAILURE = "INTERNAL: RET_CHECK failure\n1 operands but sees 3"


def _installed(patch: pytest.MonkeyPatch, version: str, backend: str) -> None:
  patch.setattr(topologies.util, "find_spec", lambda name: name)
  patch.setattr(topologies.metadata, "version", lambda name: version)
  patch.setattr(jax, "default_backend", lambda: backend)


def _suitable() -> str:
  """A version that the installed JAX is made with."""
  [wanted] = [
    requirement
    for requirement in map(Requirement, metadata.requires("jax"))
    if requirement.name == "libtpu"
  ]
  [specifier] = wanted.specifier
  return specifier.version.removesuffix(".*")


@pytest.mark.parametrize("version", ["0.0.1", "99.0"])
def test_nothing_is_compiled_with_another_version(monkeypatch, version):
  _installed(monkeypatch, version, "cpu")
  with pytest.raises(UserError) as told:
    topologies.parse("v5e:2x2").devices()
  assert str(told.value) == (
    f"libtpu {version} does not suit jax {jax.__version__}, which wants"
    f" libtpu=={_suitable()}.*; pip install -e '.[tpu]'"
  )


@pytest.mark.parametrize("suffix", ["", ".1"])
def test_the_version_of_jax_is_asked(monkeypatch, suffix):
  _installed(monkeypatch, _suitable() + suffix, "cpu")

  def compiler(*unused, **options):
    raise jax.errors.JaxRuntimeError("it was asked")

  monkeypatch.setattr(topologies.topologies, "get_topology_desc", compiler)
  with pytest.raises(UserError, match="no topology .*it was asked"):
    topologies.parse("v5e:2x4").devices()


def test_what_fails_on_a_tpu_with_another_version_is_one_sentence(monkeypatch):
  _installed(monkeypatch, "99.0", "tpu")
  with pytest.raises(UserError) as told, topologies.mistakes():
    raise jax.errors.JaxRuntimeError(_FAILURE)
  assert str(told.value).startswith("libtpu 99.0 does not suit jax")
  assert " (INTERNAL: RET_CHECK failure); pip install" in str(told.value)
  _installed(monkeypatch, "99.0", "cpu")  # it does not even start
  with pytest.raises(UserError), topologies.mistakes():
    raise RuntimeError("Unable to initialize backend 'tpu': INTERNAL")


@pytest.mark.parametrize(
  "version, backend", [("99.0", "cpu"), (_suitable(), "tpu")]
)
def test_what_has_nothing_to_do_with_it_passes(monkeypatch, version, backend):
  _installed(monkeypatch, version, backend)
  with pytest.raises(jax.errors.JaxRuntimeError), topologies.mistakes():
    raise jax.errors.JaxRuntimeError(_FAILURE)
  _installed(monkeypatch, "99.0", "tpu")
  with pytest.raises(ValueError), topologies.mistakes():
    raise ValueError("a mistake of ours")
