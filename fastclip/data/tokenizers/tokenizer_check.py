"""Checks that a `tokenizer.json` gives the same ids as the tokenizer it was written from."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from fastclip.data.tokenizers.cleaning import repair
from fastclip.data.tokenizers.vocabulary import WHOLE_FILE

# Texts in many scripts; `cleaning.repair` changes the last six.
TEXTS = (
    "", "a", "a photo of a cat.", "A Photo of TWO DOGS, and a fire-engine!", "it's they'll WE'VE",
    "three red sixes", "1,024 pixels (50%), 3.5 m", "a  photo\tof\nblanks ", "#tag @user a_b/c-d",
    "naïve café Straße", "Кошка на окне", "ΟΔΟΣ", "一只猫。", "ソファの上の猫", "고양이", "قطة",
    "👍🏽 ❤️", "don’t say “no”", "a very long text, isn't it? " * 30,
    "fish &amp; chips", "cafÃ©", "ＦＵＬＬ", "ﬁne", "a\x1b[0mb", "&lt;b&gt;",
)  # fmt: skip


class TokenizerCheck(NamedTuple):
    """The result of comparing a `tokenizer.json` with its tokenizer.

    Attributes:
        num_texts: how many texts were compared.
        num_same: how many of them have the same row of ids.
        repaired: texts with different ids that `cleaning.repair` changes, which the file cannot do.
        wrong: other texts with different ids; there should be none.
    """

    num_texts: int
    num_same: int
    repaired: list[str]
    wrong: list[str]


def check_tokenizer_json(
    tokenizer: Callable[..., Any], directory: str | PathLike
) -> TokenizerCheck:
    """Compare the `tokenizer.json` in a directory with the tokenizer, for texts of many kinds.

    Args:
        tokenizer: the tokenizer that the file was written from; it maps texts to (B, T) ids.

    Raises:
        ModuleNotFoundError: tokenizers is not installed.
        ValueError: the file cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        written = Tokenizer.from_file(str(Path(directory, WHOLE_FILE)))
    except Exception as error:  # tokenizers raises a plain Exception
        raise ValueError(f"tokenizers cannot read {WHOLE_FILE}: {error}") from error
    expected = tokenizer(list(TEXTS), truncate=True).tolist()
    found = [row.ids for row in written.encode_batch(list(TEXTS))]
    different = [t for t, ours, row in zip(TEXTS, expected, found, strict=True) if ours != row]
    repaired = [text for text in different if repair(text) != text.strip()]
    wrong = [text for text in different if text not in repaired]
    return TokenizerCheck(len(TEXTS), len(TEXTS) - len(different), repaired, wrong)
