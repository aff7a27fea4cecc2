#!/usr/bin/env bash
# Collects what scripts/gpu_acceptance.py needs on a machine with a GPU but without a network, in one folder of wheels:
#   bash scripts/gpu_bundle.sh FOLDER [PYTHON]     PYTHON: the version there (default: 3.12)
# That machine must have x86-64 Linux and already PyTorch, torchvision, NumPy, SciPy, OpenCV, Pillow, matplotlib,
# scikit-image, PyYAML, tqdm, requests, safetensors and tensorboard. The folder takes about 40 MB.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ] || [[ "$1" == -* ]]; then
  sed -n '2,5s/^# \?//p' "$0" >&2
  exit 2
fi
version=${2:-3.12}
if [[ ! "$version" =~ ^3\.[0-9]+$ ]]; then
  echo "gpu_bundle: $version: expected the version of a Python, such as 3.12" >&2
  exit 2
fi
mkdir -p -- "$1"
folder=$(realpath -e -- "$1")
cd "$(dirname "$0")/.."
source scripts/environment.sh quickstart

echo "== wheels for Python $version"
platforms=(--platform manylinux1_x86_64 --platform manylinux2014_x86_64)
for glibc in 5 12 17 24 27 28 31 34 35 39; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
fetch() {
  python -m pip download --disable-pip-version-check --quiet --dest "$folder" --only-binary=:all: \
    --python-version "$version" --implementation cp "${platforms[@]}" "$@"
}
fetch pydantic  # with what it requires
fetch --no-deps addict yapf platformdirs future lmdb av tifffile isal

echo '== BasicSR, built from its source package'
python -m pip install --disable-pip-version-check --quiet setuptools wheel cython
start=$(mktemp -d)
python -c 'from pdan_plugin.install_toolbox import EXEC_AS_BEFORE; print(EXEC_AS_BEFORE)' > "$start/sitecustomize.py"
PYTHONPATH=$start python -m pip wheel --disable-pip-version-check --quiet --no-build-isolation --no-deps \
  --wheel-dir "$folder" basicsr==1.4.2
rm -r -- "$start"

du -sh "$folder"
echo "Next: copy this checkout and that folder to the other machine. There, in the checkout:
  python -m pip install --no-index --no-deps --target site FOLDER/*.whl
  PYTHONPATH=.:site python scripts/gpu_acceptance.py --json gpu.json"
