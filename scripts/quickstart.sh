#!/usr/bin/env bash
# A complete example, on any machine with Python 3.10 to 3.13: renders blurred clips from photographs, stores them, trains
# the three phases of a small PDAN, tests it on clips it has not seen, and draws a sheet of the results.
#   bash scripts/quickstart.sh
# Makes .venv if no environment is active. After an interruption, the same command continues.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
source scripts/environment.sh quickstart

echo '== 1. rendering clips from the photographs that scikit-image ships'
python scripts/render_clips.py skimage datasets/quickstart_clips --clips 12 --val-clips 4 --frames 20 --val-frames 6 --seed 0
python scripts/render_clips.py skimage datasets/quickstart_clips_synthesised --clips 6 --val-clips 0 --frames 20 --seed 1

echo '== 2. storing them in the form of REDS'
python scripts/prepare_reds.py datasets/quickstart_clips datasets/quickstart --splits train val --verify
python scripts/prepare_reds.py datasets/quickstart_clips_synthesised datasets/quickstart_synthesised --splits train --verify

for phase in 1 2 3; do
  echo "== 3. training phase $phase"
  if [ -e "experiments/quickstart_phase$phase/models/net_g_latest.pth" ]; then
    echo "experiments/quickstart_phase$phase is already trained; remove the folder to train it again"
  else
    basicsr train -opt "options/quickstart/phase$phase.yml" --auto_resume
  fi
done

echo '== 4. testing on clips it has not seen'
basicsr test -opt options/quickstart/test.yml

echo '== 5. drawing the sheet'
python scripts/picture_sheet.py --lr datasets/quickstart/val_blur_bicubic_x4.lmdb --gt datasets/quickstart/val_sharp.lmdb \
  --results PDAN=results/quickstart/visualization/held-out -o results/quickstart/sheet.png --json --require-gain 0.3

echo "== done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s. Look at results/quickstart/sheet.png and results/quickstart/report.html"
echo 'Next, a picture of your own:'
echo '  basicsr restore PICTURE -o restored -w experiments/quickstart_phase3/models/net_g_latest.pth'
[ -n "${made_environment:-}" ] && echo '  (in a new shell, first: source .venv/bin/activate)' || true
