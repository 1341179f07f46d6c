"""Whether a `tokenizer.json` gives the ids of the tokenizer that it was written of."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from fastclip.data.tokenizers.cleaning import repair
from fastclip.data.tokenizers.vocabulary import WHOLE_FILE

# Of many scripts; `cleaning.repair` changes the last six.
TEXTS = (
    "", "a", "a photo of a cat.", "A Photo of TWO DOGS, and a fire-engine!", "it's they'll WE'VE",
    "three red sixes", "1,024 pixels (50%), 3.5 m", "a  photo\tof\nblanks ", "#tag @user a_b/c-d",
    "naïve café Straße", "Кошка на окне", "ΟΔΟΣ", "一只猫。", "ソファの上の猫", "고양이", "قطة",
    "👍🏽 ❤️", "don’t say “no”", "a very long text, isn't it? " * 30,
    "fish &amp; chips", "cafÃ©", "ＦＵＬＬ", "ﬁne", "a\x1b[0mb", "&lt;b&gt;",
)  # fmt: skip


class TokenizerCheck(NamedTuple):
    """How many texts have the same ids.

    Attributes:
        num_texts: how many were compared.
        num_same: how many of them have the same row of ids.
        repaired: texts with other ids that `cleaning.repair` changes: the file cannot say how.
        wrong: other texts with other ids, of which there should be none.
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
        tokenizer: what the file was written of: from texts to (B, T) ids.

    Raises:
        ModuleNotFoundError: tokenizers is not installed.
        ValueError: the file cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        written = Tokenizer.from_file(str(Path(directory, WHOLE_FILE)))
    except Exception as error:  # tokenizers raises that
        raise ValueError(f"tokenizers cannot read {WHOLE_FILE}: {error}") from error
    expected = tokenizer(list(TEXTS), truncate=True).tolist()
    found = [row.ids for row in written.encode_batch(list(TEXTS))]
    different = [t for t, ours, row in zip(TEXTS, expected, found, strict=True) if ours != row]
    repaired = [text for text in different if repair(text) != text.strip()]
    wrong = [text for text in different if text not in repaired]
    return TokenizerCheck(len(TEXTS), len(TEXTS) - len(different), repaired, wrong)
