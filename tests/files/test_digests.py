"""Digests are SHA-256 as every other program computes it."""

import pytest

from pdan_plugin.files.digests import digest_of, file_digest, json_digest

OF_ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'  # FIPS 180-2, appendix B.1


def test_parts_and_files(tmp_path):
    assert digest_of(b'abc') == digest_of(b'a', memoryview(b'bc')) == OF_ABC
    (tmp_path / 'abc').write_bytes(b'abc')
    assert file_digest(tmp_path / 'abc') == OF_ABC
    large = bytes(range(256)) * 10_000  # several parts
    (tmp_path / 'large').write_bytes(large)
    assert file_digest(str(tmp_path / 'large')) == digest_of(large)
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / 'none')


def test_json_whatever_the_order_of_its_keys():
    assert json_digest({'a': 1, 'b': [2]}) == json_digest({'b': [2], 'a': 1}) != json_digest({'a': 1, 'b': [3]})
    assert json_digest('abc') == digest_of(b'"abc"')
