"""The draws of every run so far: another value here would change what a resumed run trains on."""

from pdan_plugin.data.seeded_bytes import seeded_bytes


def test_the_same_for_ever_and_another_for_every_number_and_purpose():
    assert seeded_bytes(8, 1, 2, 3, 4).hex() == 'ab27e7b77ed3499d'
    assert seeded_bytes(8, 1, 2, 3, 4, purpose='mixing').hex() == '5eecd45207b90061'
    draws = {seeded_bytes(8, *numbers) for numbers in ((1, 23), (12, 3), (123,), (1, 2, 3), (-1, 23))}
    assert len(draws) == 5
