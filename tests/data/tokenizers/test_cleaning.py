import random
import string

import ftfy
import pytest

from fastclip.data.tokenizers.cleaning import CLEANERS, find_cleaner


@pytest.mark.parametrize(
    "name, expected",
    [
        ("lower", "a_photo of café & <b>, it's!"),
        ("whitespace", "A_Photo of Café & <b>, it's!"),
        ("canonicalize", "a photo of café b its"),
    ],
)
def test_cleaner_repairs_then_does_what_its_name_says(name, expected):
    text = " A_Photo\n of\tCafÃ© &amp;amp; &lt;b&gt;,  it’s! "
    assert find_cleaner(name)(text) == expected


def test_entities_are_unescaped_beside_a_tag_where_ftfy_leaves_them():
    assert find_cleaner("lower")("<b>x &amp;amp; y</b>") == "<b>x & y</b>"


@pytest.mark.parametrize("name", CLEANERS)
@pytest.mark.parametrize("text", ["", " \t\n ", "\x00", "\ufeff"])
def test_cleaner_leaves_nothing_of_blanks_and_controls(name, text):
    assert find_cleaner(name)(text) == ""


def test_lone_surrogates_become_the_replacement_character():
    assert find_cleaner("whitespace")("a\ud800b \ud83d\ude00") == "a\ufffdb \U0001f600"


def test_repair_may_skip_printable_ascii_because_ftfy_returns_it():
    rng = random.Random(0)
    letters = "".join(chr(i) for i in range(0x20, 0x7F)).replace("&", "")
    texts = ["".join(rng.choices(letters, k=50)) for _ in range(500)]
    texts += [a + b for a in string.punctuation for b in string.punctuation if "&" not in a + b]
    assert [ftfy.fix_text(text) for text in texts] == texts


def test_unknown_cleaner_is_rejected_with_the_choices():
    with pytest.raises(ValueError, match="'lower', 'whitespace', 'canonicalize', got 'upper'"):
        find_cleaner("upper")
