"""File names as ids and as printed text: examples by hand, and that nothing is lost."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optical_jax.data.files.names import image_id, image_name, shown_name


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("rose.jpg", "rose.jpg"),
        ("red rose.jpg", "red%20rose.jpg"),
        ("a\tb\nc", "a%09b%0Ac"),
        ("no\u00a0break", "no%C2%A0break"),
        ("100%.jpg", "100%.jpg"),
        ("100% wool.jpg", "100%25%20wool.jpg"),
        # As written here it would be read as a space.
        ("a%20b.jpg", "a%2520b.jpg"),
        # An address of an image stays as it is.
        ("https://x.org/Caf%C3%A9.jpg", "https://x.org/Caf%C3%A9.jpg"),
        ("mwanamke-Mwafrika-日本.png", "mwanamke-Mwafrika-日本.png"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf%E9.jpg"),
        ("caf%E9.jpg", "caf%25E9.jpg"),
    ],
)
def test_ids_by_hand(name, identity):
    assert image_id(name) == identity
    assert image_name(identity) == name


NAMES = st.one_of(
    st.text(st.sampled_from("a 2%0\t")),
    st.text().filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name)),
    st.binary().map(os.fsdecode),
)


@given(NAMES)
@example("%2520")
def test_every_name_has_its_own_id_without_white_space(name):
    identity = image_id(name)
    assert image_name(identity) == name
    assert not any(c.isspace() for c in identity)
    identity.encode()


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("red rose.jpg", "red rose.jpg"),
        ("100%25.jpg", "100%25.jpg"),
        ("a\nb 5%", "a%0Ab 5%25"),
        (os.fsdecode(b"caf\xe9 a.jpg"), "caf%E9 a.jpg"),
        ("\x1b[31m", "%1B[31m"),
    ],
)
def test_printed_names_are_one_line_of_text(name, printed):
    assert shown_name(name) == printed
