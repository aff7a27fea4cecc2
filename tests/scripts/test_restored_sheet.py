"""scripts/restored_sheet.py: the picture of the README."""

import numpy as np
from PIL import Image
from skimage import data

from restored_sheet import main


def test_the_sheet_shows_two_pictures_and_what_becomes_of_them(tmp_path, capsys):
    Image.fromarray(data.coffee()).save(tmp_path / 'budgie-casa-mila.jpg')
    assert main([str(tmp_path), '-o', str(tmp_path / 'sheet.jpg')]) == 0
    sheet = np.asarray(Image.open(tmp_path / 'sheet.jpg'))
    columns = np.array_split(sheet, 4, axis=1)  # LR, bicubic, restored, ground truth
    assert len({column[:300].tobytes() for column in columns}) == 4
    assert sheet.shape[0] > 1000
    assert '2 of 2 restored' in capsys.readouterr().out
