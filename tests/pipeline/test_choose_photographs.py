"""scripts/choose_photographs.py: which photographs, and how large."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'choose_photographs.py'


def choose(*words: object) -> int:
    return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    sizes = {
        'large.png': (300, 200),
        'free_software.png': (300, 200),
        'compressed.png': (400, 300),
        'more/a.png': (60, 80),
        'more/b.png': (70, 80),
        'more/c.png': (60, 90),
        'secret.png': (250, 200),
    }
    for number, (name, (width, height)) in enumerate(sizes.items()):
        noise = np.random.default_rng(number).integers(0, 30, (height, width, 3))
        cv2.imwrite(str(folder / name), (noise + 30 * number).astype(np.uint8))
    rows = [
        'file\tlicence\ttier',
        'large.png\tCC0-1.0\tA',
        'free_software.png\tLGPL-3\tA',
        'compressed.png\tCC0-1.0\tB',
    ]
    (folder / 'CREDITS.tsv').write_text('\n'.join(rows) + '\n')
    (tmp_path / 'held_back.txt').write_text('# not trained on\nsecret.png\n')
    return folder


def test_licences_tiers_sizes_and_what_is_held_back(photos: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / 'chosen'
    assert choose(photos, target, '--held-back', tmp_path / 'held_back.txt', '--size', '128x96') == 0
    assert sorted(path.name for path in target.iterdir()) == ['collage_00.png', 'compressed.png', 'large.png']
    assert (target / 'large.png').read_bytes() == (photos / 'large.png').read_bytes()
    halved, whole = cv2.imread(str(target / 'compressed.png')), cv2.imread(str(photos / 'compressed.png'))
    assert halved is not None
    assert whole is not None
    assert np.abs(halved - whole.reshape(150, 2, 200, 2, 3).mean(axis=(1, 3))).max() <= 0.5
    collage = cv2.imread(str(target / 'collage_00.png'))
    assert collage is not None
    # frames of 128x96 need 151x116: three columns of 60 and two rows of 80
    assert collage.shape == (160, 180, 3)
    means = {
        int(round(collage[80 * row :, 60 * column :][:80, :60].mean() - 14.5, -1))
        for row in (0, 1)
        for column in (0, 1, 2)
    }
    assert means == {90, 120, 150}
    assert '2 photographs, and 3 small ones in 1 pictures' in capsys.readouterr().out


def test_only_what_is_held_back(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / 'chosen'
    words = (photos, target, '--held-back', tmp_path / 'held_back.txt', '--only-held-back', '--size', '128x96')
    assert choose(*words) == 0
    assert [path.name for path in target.iterdir()] == ['secret.png']


def test_every_nth_photograph_is_held_back_where_none_of_the_names_is(photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'held_back.txt').write_text('of_another_folder.png\n')
    words = ('--held-back', tmp_path / 'held_back.txt', '--else-every', 3, '--size', '64x48')
    assert choose(photos, tmp_path / 'chosen', *words) == 0
    assert choose(photos, tmp_path / 'held_back', *words, '--only-held-back') == 0
    held_back = {path.name for path in (tmp_path / 'held_back').iterdir()}
    # by path: compressed, free_software, large, more/a, more/b, more/c, secret
    assert held_back == {'compressed.png', 'secret.png', 'collage_00.png'}
    kept = {path.name for path in (tmp_path / 'chosen').iterdir()}
    assert {'large.png'} == kept - {'collage_00.png'}
    (tmp_path / 'held_back.txt').write_text('of_another_folder.png\nsecret.png\n')
    assert choose(photos, tmp_path / 'other', *words) == 2
    assert 'there is no of_another_folder.png to hold back' in capsys.readouterr().err


def test_a_name_that_is_no_photograph_leaves_nothing_behind(photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'held_back.txt').write_text('secrt.png\n')
    assert choose(photos, tmp_path / 'chosen', '--held-back', tmp_path / 'held_back.txt') == 2
    assert 'there is no secrt.png to hold back' in capsys.readouterr().err
    assert not list(tmp_path.glob('chosen*'))


def test_what_is_there_is_not_touched(photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'chosen').mkdir()
    assert choose(photos, tmp_path / 'chosen', '--size', '128x96') == 2
    assert 'exists already' in capsys.readouterr().err


def test_soft_pictures_have_less_detail_by_the_same_draws(photos: Path, tmp_path: Path, capsys) -> None:
    words = ('--held-back', tmp_path / 'held_back.txt', '--size', '128x96')
    assert choose(photos, tmp_path / 'sharp', *words) == 0
    for name in ('soft', 'again'):
        assert choose(photos, tmp_path / name, *words, '--softness', 4, '--defocus', 8, '--seed', 3) == 0
    assert choose(photos, tmp_path / 'other', *words, '--softness', 4, '--defocus', 8, '--seed', 4) == 0
    for name in ('large', 'compressed', 'collage_00'):
        sharp, soft, other = (
            np.asarray(Image.open(tmp_path / folder / f'{name}.png')).astype(int)
            for folder in ('sharp', 'soft', 'other')
        )
        assert sharp.shape == soft.shape
        assert abs(sharp.mean() - soft.mean()) < 1
        assert np.abs(np.diff(soft, axis=1)).mean() < 0.9 * np.abs(np.diff(sharp, axis=1)).mean()
        assert (soft != other).any()
        assert (tmp_path / 'soft' / f'{name}.png').read_bytes() == (tmp_path / 'again' / f'{name}.png').read_bytes()


def test_two_photographs_that_would_get_one_name_are_refused(photos: Path, tmp_path: Path, capsys) -> None:
    cv2.imwrite(str(photos / 'more' / 'large.png'), np.full((200, 300, 3), 90, np.uint8))
    assert choose(photos, tmp_path / 'chosen', '--size', '128x96') == 2
    assert 'would both become large.png; rename one of them' in capsys.readouterr().err
    assert not (tmp_path / 'chosen').exists()


def test_a_collage_does_not_replace_a_photograph_of_its_name(photos: Path, tmp_path: Path) -> None:
    (photos / 'secret.png').rename(photos / 'collage_00.png')
    assert choose(photos, tmp_path / 'chosen', '--size', '128x96') == 0
    kept = tmp_path / 'chosen' / 'collage_00.png'
    assert kept.read_bytes() == (photos / 'collage_00.png').read_bytes()
    assert (tmp_path / 'chosen' / 'collage_01.png').is_file()


def test_credits_that_cannot_be_read_or_lack_a_value(photos: Path, tmp_path: Path, capsys) -> None:
    rows = (photos / 'CREDITS.tsv').read_text()
    (photos / 'CREDITS.tsv').write_text(rows + 'secret.png\n', encoding='utf-8-sig')
    assert choose(photos, tmp_path / 'chosen', '--size', '128x96') == 0
    assert not (tmp_path / 'chosen' / 'free_software.png').exists()
    (photos / 'CREDITS.tsv').write_text(rows + 'secret.png\tJosé\tA\n', encoding='latin-1')
    assert choose(photos, tmp_path / 'other', '--size', '128x96') == 2
    assert 'CREDITS.tsv: cannot be read as UTF-8' in capsys.readouterr().err
