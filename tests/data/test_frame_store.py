"""Stores: what they hold is what went in, whole or in part, and the stock toolbox reads them."""

import pickle
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from pdan_plugin.data.frame_codec import PictureError, decode_crop, decode_picture, encode_picture
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import FrameStoreWriter, partial_path, read_checksums
from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes import stock_toolbox

CODECS = ('bmp', 'png')


@pytest.fixture
def frames() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {f'000/{number:08d}': generator.integers(0, 256, (18, 21, 3), np.uint8) for number in range(8)}


class TestReading:
    @pytest.mark.parametrize('codec', CODECS)
    def test_whole_frames_come_back(self, small_reds, codec: str) -> None:
        store = FrameStore(small_reds.root / codec / 'sharp.lmdb')
        assert store.keys == sorted(small_reds.sharp)
        assert store.codec == codec
        for key, image in small_reds.sharp.items():
            assert store.shape(key) == image.shape
            np.testing.assert_array_equal(store.read(key), image)

    @pytest.mark.parametrize('codec', CODECS)
    @pytest.mark.parametrize('name', ['sharp.lmdb', 'sharp_bicubic_x4.lmdb'])
    def test_crops_equal_the_decoded_frame_at_every_corner(self, small_reds, codec: str, name: str) -> None:
        store = FrameStore(small_reds.root / codec / name)
        key = store.keys[5]
        whole = store.read(key)
        height, width, _ = whole.shape
        size = 11
        for top in (0, 1, height - size):
            for left in (0, 3, width - size):
                crop = store.read_crop(key, top, left, size, size)
                np.testing.assert_array_equal(crop, whole[top : top + size, left : left + size])
        np.testing.assert_array_equal(store.read_crop(key, 0, 0, height, width), whole)

    def test_a_crop_outside_is_refused(self, small_reds) -> None:
        store = FrameStore(small_reds.root / 'bmp' / 'sharp.lmdb')
        with pytest.raises(ValueError, match='not inside a picture of 96x140'):
            store.read_crop(store.keys[0], 90, 0, 11, 11)

    def test_a_pickled_store_reads(self, small_reds) -> None:
        store = pickle.loads(pickle.dumps(FrameStore(small_reds.root / 'bmp' / 'sharp.lmdb')))
        np.testing.assert_array_equal(store.read('007/00000003'), small_reds.sharp['007/00000003'])

    @pytest.mark.parametrize('codec', CODECS)
    def test_the_stock_toolbox_reads_it(self, small_reds, tmp_path: Path, codec: str) -> None:
        # Copies: the stock backend never closes what it opened, and lmdb opens a path once a process.
        roots = {}
        for option, name in (('dataroot_gt', 'sharp.lmdb'), ('dataroot_lq', 'blur_bicubic_x4.lmdb')):
            roots[option] = str(shutil.copytree(small_reds.root / codec / name, tmp_path / name))
        options = small_reds.options(type='PairedImageDataset', phase='val') | roots
        with stock_toolbox():
            dataset = build_dataset(options)
            assert len(dataset) == 24
            sample = dataset[3]
        key = sample['gt_path']
        assert key == '000/00000003'
        expected = small_reds.sharp[key].transpose(2, 0, 1).astype(np.float32) / 255
        np.testing.assert_array_equal(sample['gt'].numpy(), expected)

    def test_meta_info_is_the_toolbox_s(self, small_reds) -> None:
        for codec, level in (('bmp', 0), ('png', 1)):
            lines = (small_reds.root / codec / 'sharp.lmdb' / 'meta_info.txt').read_text().splitlines()
            assert lines[0] == f'000/00000000.png (96,140,3) {level}'

    def test_a_stock_store_of_uncompressed_png_is_png(self, tmp_path: Path) -> None:
        picture = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
        (tmp_path / 'in').mkdir()
        cv2.imwrite(str(tmp_path / 'in' / 'a.png'), picture)
        make_lmdb_from_imgs(
            str(tmp_path / 'in'), str(tmp_path / 'a.lmdb'), ['a.png'], ['a'], compress_level=0, map_size=1 << 20
        )
        store = FrameStore(tmp_path / 'a.lmdb')
        assert store.codec == 'png'
        store.expect_crop('a', 0, 12)
        np.testing.assert_array_equal(store.read('a'), picture[:, :, ::-1])

    def test_a_missing_frame_is_named_with_its_store(self, small_reds) -> None:
        store = FrameStore(small_reds.root / 'bmp' / 'sharp.lmdb')
        for read in (store.read, store.shape):
            with pytest.raises(RequestError, match=r"sharp\.lmdb: holds no frame '000/00000099'"):
                read('000/00000099')

    @pytest.mark.parametrize('codec', CODECS)
    def test_a_damaged_frame_is_named_with_its_store(self, tmp_path: Path, frames, codec: str) -> None:
        with FrameStoreWriter(tmp_path / 'a.lmdb', codec=codec) as writer:
            for key, image in frames.items():
                writer.add(key, image)
            writer.add_encoded(
                '000/00000099', encode_picture(frames['000/00000000'], codec)[:-9], (18, 21, 3), '0' * 32
            )
            writer.finish()
        with pytest.raises(RequestError, match=r"a\.lmdb: frame '000/00000099' is a truncated"):
            FrameStore(tmp_path / 'a.lmdb').read('000/00000099')

    def test_an_unfinished_store_is_not_read(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match='no LMDB store here'):
            FrameStore(tmp_path / 'nothing.lmdb')
        lmdb.open(str(tmp_path / 'a.lmdb')).close()
        with pytest.raises(RequestError, match='so it is unfinished'):
            FrameStore(tmp_path / 'a.lmdb')


class TestCodec:
    def test_a_flipped_byte_in_a_png_is_found(self, frames) -> None:
        data = bytearray(encode_picture(frames['000/00000000'], 'png'))
        data[len(data) // 2] ^= 1
        with pytest.raises(PictureError, match='damaged'):
            decode_picture(bytes(data))

    def test_a_top_down_bmp_is_read(self, frames) -> None:
        image = frames['000/00000000']
        data = bytearray(encode_picture(image[::-1].copy(), 'bmp'))
        data[22:26] = (-image.shape[0]).to_bytes(4, 'little', signed=True)
        np.testing.assert_array_equal(decode_crop(bytes(data), 2, 3, 7, 5), image[2:9, 3:8])

    @pytest.mark.parametrize(
        ('image', 'kind'),
        [
            (np.zeros((4, 4), np.uint8), '8-bit grey'),
            (np.zeros((4, 4, 4), np.uint8), '8-bit RGB with alpha'),
            (np.zeros((4, 4, 3), np.uint16), '16-bit RGB'),
        ],
    )
    def test_other_pictures_are_named_for_what_they_are(self, image: np.ndarray, kind: str) -> None:
        data = cv2.imencode('.png', image)[1].tobytes()
        with pytest.raises(PictureError, match=f'is {kind}, expected 8-bit RGB'):
            decode_picture(data)
        with pytest.raises(PictureError, match='not a PNG or BMP'):
            decode_picture(b'\xff\xd8\xff\xe0' + bytes(60))


class TestWriting:
    def test_nothing_is_in_place_before_the_end(self, tmp_path: Path, frames) -> None:
        path = tmp_path / 'a.lmdb'
        with FrameStoreWriter(path) as writer:
            writer.add('000/00000000', frames['000/00000000'])
        assert not path.exists()
        with FrameStoreWriter(path) as writer:
            assert writer.done == {'000/00000000'}
            for key, image in frames.items():
                if key not in writer.done:
                    writer.add(key, image)
            writer.finish()
        assert not partial_path(path).exists()
        store = FrameStore(path)
        assert store.keys == sorted(frames)
        for key, image in frames.items():
            np.testing.assert_array_equal(store.read(key), image)

    @pytest.mark.parametrize('cut', ['a line', 'half a line', 'everything'])
    def test_a_kill_between_commit_and_journal_loses_nothing(self, tmp_path: Path, frames, cut: str) -> None:
        path = tmp_path / 'a.lmdb'
        with FrameStoreWriter(path) as writer:
            for key, image in frames.items():
                writer.add(key, image)
        whole = read_checksums(partial_path(path))
        journal = partial_path(path) / 'checksums.txt'
        text = journal.read_text()
        kept = {'a line': text.rindex('\n', 0, -1) + 1, 'half a line': len(text) - 20, 'everything': 0}[cut]
        journal.write_text(text[:kept])
        with FrameStoreWriter(path) as writer:
            assert writer.done == set(frames)
            writer.finish()
        assert read_checksums(path) == whole
        assert len(whole) == len(frames)

    def test_the_map_grows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr('pdan_plugin.data.frame_store_writer._SMALLEST_MAP', 64 << 10)
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        with FrameStoreWriter(tmp_path / 'a.lmdb') as writer:
            for number in range(40):
                writer.add(f'000/{number:08d}', image + np.uint8(number))
                writer.commit()
            writer.finish()
        store = FrameStore(tmp_path / 'a.lmdb')
        assert len(store.keys) == 40
        np.testing.assert_array_equal(store.read('000/00000039'), image + np.uint8(39))

    def test_an_unfinished_store_is_continued_only_as_it_was_begun(self, tmp_path: Path, frames) -> None:
        with FrameStoreWriter(tmp_path / 'a.lmdb', codec='bmp', origin='here') as writer:
            writer.add('000/00000000', frames['000/00000000'])
            with pytest.raises(RequestError, match='another process is writing it'):
                FrameStoreWriter(tmp_path / 'a.lmdb', codec='bmp', origin='here')
        for codec, origin in (('png', 'here'), ('bmp', 'there')):
            with pytest.raises(RequestError, match='begun with codec bmp from here'):
                FrameStoreWriter(tmp_path / 'a.lmdb', codec=codec, origin=origin)

    def test_a_finished_store_is_not_overwritten(self, small_reds) -> None:
        with pytest.raises(RequestError, match='already exists'):
            FrameStoreWriter(small_reds.root / 'bmp' / 'sharp.lmdb')
