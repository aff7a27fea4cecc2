# Sourced by quickstart.sh and test.sh: an environment with this package in it.
# The active one (venv or conda) is used as it is; else .venv is made beside this folder's parent. Installs only what is
# missing, so the second run is quick and needs no network. $1: extras, comma-separated.
extras=$1

find_python() {
  local name
  for name in "${PYTHON:-}" python3.12 python3.11 python3.10 python3 python; do
    [ -n "$name" ] && "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null &&
      { echo "$name"; return; }
  done
  echo 'No Python 3.10, 3.11 or 3.12 found (3.13 cannot build BasicSR 1.4.2). Install one, or name it: PYTHON=/path/to/python' >&2
  return 1
}

if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    echo "== making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  source .venv/bin/activate
  made_environment=yes
fi

# What was installed, by the description of the package: an edited setup.py or another set of extras installs anew.
stamp="$(python -c 'import sys; print(sys.prefix)')/.pdan_plugin_installed"
wanted="$(pwd) [$extras] $(cksum < setup.py)"
if ! grep -qxF "$wanted" "$stamp" 2>/dev/null; then
  echo '== installing (torch and its libraries are several GB)'
  python -m pip install --disable-pip-version-check -e ".[$extras]"
  echo "$wanted" >> "$stamp"
fi
