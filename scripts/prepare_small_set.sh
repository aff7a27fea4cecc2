#!/usr/bin/env bash
# The data of options/baselines/small, options/ablation/small and options/pdan_small, from your own photographs and videos:
#   bash scripts/prepare_small_set.sh PHOTOS VIDEOS
# PHOTOS: a folder of photographs (about 1300x800 or larger; a dozen will do), for training. VIDEOS: a video or a folder of
# some, sharp and with motion, for scoring; nothing of them is trained on. Takes about half an hour and 5 GB.
# Interrupted, it goes on where it stopped when it is called again.
set -euo pipefail
if [ $# != 2 ]; then
  sed -n '2,6s/^# \?//p' "$0" >&2
  exit 2
fi
photos=$(realpath -e -- "$1")
videos=$(realpath -e -- "$2")
cd "$(dirname "$0")/.."
started=$SECONDS
source scripts/environment.sh quickstart

echo '== 1. rendering training clips: a moving camera, moving objects, blur averaged in light'
python scripts/render_clips.py "$photos" datasets/small_clips --clips 72 --val-clips 0 --frames 24 --size 640x384 --softness 1.25 --defocus 8 --seed 0
python scripts/prepare_reds.py datasets/small_clips datasets/small --splits train --verify
echo '== 2. the same with another seed: the set that phase 3 adds'
python scripts/render_clips.py "$photos" datasets/small_clips_synthesised --clips 36 --val-clips 0 --frames 24 --size 640x384 --softness 1.25 --defocus 8 --seed 1
python scripts/prepare_reds.py datasets/small_clips_synthesised datasets/small_synthesised --splits train --verify

# 13 of 16 sub-frames are the light of 0.8 frame intervals: REDS's duty cycle, in a video of 25 frames a second.
echo '== 3. blurring real video: the frames that are scored'
python scripts/synthesize_blur.py "$videos" datasets/small_video --split val --window 13 --stride 10

echo "== done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
echo 'Next: python scripts/reproduce_tables.py'
[ -n "${made_environment:-}" ] && echo '  (in a new shell, first: source .venv/bin/activate)' || true
