import pytest
import torch

from fastclip.data.tokenizers import openai
from fastclip.data.tokenizers.arguments import TextTooLong
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from tests.support.merges import random_vocabulary


@pytest.fixture
def tokenizer(monkeypatch):
    tokenizer = BytePairTokenizer(random_vocabulary(20))
    monkeypatch.setattr(openai, "default_tokenizer", lambda: tokenizer)
    return tokenizer


def test_tokenize_and_decode_are_the_tokenizers(tokenizer):
    ids = openai.tokenize(["ab ba", "a"])
    assert ids.shape == (2, 77) and torch.equal(ids, tokenizer(["ab ba", "a"]))
    assert openai.decode(ids[1][:3]) == "<start_of_text>a <end_of_text>"


def test_tokenize_raises_on_what_does_not_fit_unless_it_may_truncate(tokenizer):
    with pytest.raises(TextTooLong, match="truncate=True"):
        openai.tokenize("a " * 7, context_length=8)
    ids = openai.tokenize("a " * 7, context_length=8, truncate=True)
    assert torch.equal(ids, openai.tokenize("a " * 6, context_length=8))


def test_import_reads_nothing(fresh_process):
    code = (
        "import sys; from fastclip.data.tokenizers import openai; "
        "assert openai.default_tokenizer.cache_info().currsize == 0; "
        "assert not {'open_clip', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    done = fresh_process.run(code)
    assert done.returncode == 0, done.stderr
