#!/usr/bin/env bash
# The data of options/pdan_small (the weights in the package), options/baselines/small and options/ablation/small (the
# tables), from your own photographs and videos:
#   bash scripts/prepare_small_set.sh PHOTOS VIDEOS [--only weights|tables]
# PHOTOS: a folder of photographs, for training; for the tables a dozen of about 1300x800 or larger are enough. VIDEOS: a
# video or a folder of videos, sharp and with motion, for scoring only, not for training. Takes about an hour and 8 GB.
# After an interruption, the same command continues.
#
# The clips of the weights cover common pictures. Of the 270 and 180 clips, 40% are still pictures without motion: 60% of
# them sharp to the pixel, 40% soft or out of focus, because softness is not always motion. Of the others, 20% have a
# resting camera, and 60% are neither soft nor out of focus. Of all clips, 15% are dark and 10% bright. Distances are
# uniform in their logarithm, from the photograph's own pixels to its whole view. Clips show the most detailed parts of
# the photographs, so the photographs themselves, as they are, are one more source: with smooth and soft parts. A further
# source has the same photographs, all of them soft, one in three also out of focus. The photographs that options/pdan_small/
# held_back.txt names are held back for validation; if there are none of them, every tenth one is.
set -euo pipefail
only=${4:-}
if [ $# != 2 ] && ! { [ $# = 4 ] && [ "$3" = --only ] && { [ "$only" = weights ] || [ "$only" = tables ]; }; }; then
  sed -n '2,8s/^# \?//p' "$0" >&2
  exit 2
fi
photos=$(realpath -e -- "$1")
videos=$(realpath -e -- "$2")
cd "$(dirname "$0")/.."
started=$SECONDS
source scripts/environment.sh quickstart

# Renders clips into TARGET and stores them. Arguments: TARGET STORES SPLIT PHOTOS, then options of render_clips.py.
render() {
  local target=$1 stores=$2 split=$3
  shift 3
  basicsr render-clips "$1" "$target" --size 640x384 "${@:2}"
  basicsr prepare-reds "$target" "$stores" --splits "$split" --verify
}

if [ "$only" != tables ]; then
  held_back=(--held-back options/pdan_small/held_back.txt --else-every 10)
  kinds=(--softness 1.25 --defocus 8 --sharp 0.6 --soft-stills 0.4 --dark 0.15 --bright 0.1 --stills 0.4 --still-camera 0.2)
  echo '== 1. choosing the photographs of the weights'
  [ -d datasets/small_photos ] || python scripts/choose_photographs.py "$photos" datasets/small_photos "${held_back[@]}"
  [ -d datasets/small_photos_held_back ] ||
    python scripts/choose_photographs.py "$photos" datasets/small_photos_held_back "${held_back[@]}" --only-held-back
  echo '== 2. the photographs as they are; rendering the clips of the weights, the set that phase 3 adds, and the held-back set'
  basicsr prepare-pairs datasets/small_photos datasets/photographs --validation 0
  [ -d datasets/small_photos_soft ] ||
    python scripts/choose_photographs.py "$photos" datasets/small_photos_soft "${held_back[@]}" --softness 4 --defocus 8
  basicsr prepare-pairs datasets/small_photos_soft datasets/photographs_soft --validation 0
  render datasets/everyday_clips datasets/everyday train datasets/small_photos --clips 270 --val-clips 0 --frames 8 "${kinds[@]}" --seed 0
  render datasets/everyday_clips_synthesised datasets/everyday_synthesised train datasets/small_photos --clips 180 --val-clips 0 --frames 8 "${kinds[@]}" --seed 1
  render datasets/everyday_clips_held_back datasets/everyday val datasets/small_photos_held_back --clips 0 --val-clips 20 --val-frames 2 "${kinds[@]}" --seed 2
fi
if [ "$only" != weights ]; then
  echo '== 3. rendering the clips of the tables: a moving camera, moving objects, blur averaged in linear light; two seeds'
  render datasets/small_clips datasets/small train "$photos" --clips 72 --val-clips 0 --frames 24 --softness 1.25 --defocus 8 --seed 0
  render datasets/small_clips_synthesised datasets/small_synthesised train "$photos" --clips 36 --val-clips 0 --frames 24 --softness 1.25 --defocus 8 --seed 1
fi

# 13 of 16 sub-frames cover 0.8 frame intervals: REDS's duty cycle, for a video of 25 frames per second.
echo '== 4. blurring real video: the frames that are scored'
basicsr synthesize "$videos" datasets/small_video --split val --window 13 --stride 10

echo "== done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
[ "$only" = tables ] || echo 'Next: basicsr train -opt options/pdan_small/phase1.yml'
[ "$only" = weights ] || echo 'Next, the tables: python scripts/reproduce_tables.py'
[ -n "${made_environment:-}" ] && echo '  (in a new shell, first: source .venv/bin/activate)' || true
