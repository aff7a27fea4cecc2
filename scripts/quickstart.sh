#!/usr/bin/env bash
# A complete example, on any machine with Python 3.10 to 3.13: installs what is missing and runs `basicsr quickstart`.
#   bash scripts/quickstart.sh [arguments of basicsr quickstart]
# Makes .venv if no environment is active. After an interruption, the same command continues.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh quickstart
basicsr quickstart "$@"
[ -n "${made_environment:-}" ] && echo '  (in a new shell, first: source .venv/bin/activate)' || true
