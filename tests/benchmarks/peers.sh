#!/bin/sh
# Makes the virtual environments of the peers that we are measured against.
#
#   tests/benchmarks/peers.sh [folder]
#
# The default folder is where the benchmarks look for them. Packages come from
# the index that pip is set up for. torch is pinned to a version with a build
# for CPUs; where an index has only builds with CUDA, which are gigabytes, add
# PyTorch's own index for CPUs to pip's settings (PIP_EXTRA_INDEX_URL).
set -eu

folder=${1:-${S2D_PEERS:-${S2D_CACHE:-$HOME/.cache/s2d_jax}/peers}}
python=${PYTHON:-python3}

make() {  # name, packages
  environment=$folder/$1
  shift
  test -d "$environment" || "$python" -m venv "$environment"
  "$environment/bin/pip" install --quiet "$@"
}

mkdir -p "$folder"
make torch torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
make tunix google-tunix==0.1.7
make llama_cpp xllamacpp==2026.10.11549 gguf==0.19.0 safetensors numpy
echo "the peers are in $folder"
