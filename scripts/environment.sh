# Sourced by quickstart.sh and test.sh: an environment with this package in it.
# Uses the active environment (venv or conda), or else makes .venv in the repository. Installs only what is missing, so
# the second run is quick and needs no network. $1: extras, comma-separated.
source scripts/pythons.sh

# The newest supported Python on PATH; if there is none, the newest that pyenv has.
choose_python() {
  local version
  for version in $(newest_first); do find_on_path "$version" && return; done
  for version in $(newest_first); do find_python "$version" && return; done
  echo "No supported Python found ($(supported_pythons | paste -sd' ' -)). Install one, or name it: PYTHON=/path/to/python" >&2
  return 1
}

if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/python ]; then
    python=$(choose_python)
    echo "== making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  source .venv/bin/activate
  made_environment=yes
fi
install_package "$(python -c 'import sys; print(sys.prefix)')" "$1" ''
