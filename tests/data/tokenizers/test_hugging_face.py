import sys

import pytest
import torch

from fastclip.data.tokenizers import hugging_face
from fastclip.data.tokenizers.arguments import TextTooLong
from fastclip.data.tokenizers.hugging_face import HFTokenizer
from tests.support.hard_texts import HARD_TEXTS, random_texts
from tests.support.peers import open_clip, transformers

TEXTS = [*HARD_TEXTS.values(), *random_texts(100)]
WORDS = ["a", "photo", "of", "cat", "dog", "c", "##at", "##s", "é", "!", ",", "A", "Cat", "s", "'"]


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory):
    """A directory of a tokenizer like BERT's: [CLS] text [SEP] [PAD]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return saved(
        tokenizer,
        tmp_path_factory.mktemp("word_pieces"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@pytest.fixture(scope="module")
def unigrams(tmp_path_factory):
    """A directory of a tokenizer like SigLIP's: text </s> </s>, the end token being padding."""
    from tokenizers import Tokenizer, models, processors

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((chr(i), -float(i)) for i in range(32, 127))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return saved(
        tokenizer,
        tmp_path_factory.mktemp("unigrams"),
        pad_token="</s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def saved(tokenizer, directory, **special):
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("name", ["word_pieces", "unigrams"])
def test_ids_equal_open_clips(request, name, clean):
    directory = request.getfixturevalue(name)
    ours, theirs = (
        kind(str(directory), clean=clean) for kind in (HFTokenizer, open_clip.tokenizer.HFTokenizer)
    )
    for context_length in (77, 8):
        ids = ours(TEXTS, context_length=context_length)
        assert ids.dtype == torch.int64
        assert torch.equal(ids, theirs(TEXTS, context_length=context_length))
    assert torch.equal(ours("a cat"), theirs("a cat"))


def test_rows_are_the_tokenizers_special_tokens_words_and_padding(word_pieces):
    tokenizer = HFTokenizer(word_pieces, context_length=8)
    assert tokenizer(" a  cats\n!").tolist() == [[2, 4, 7, 11, 13, 3, 0, 0]]
    assert tokenizer("a " * 20).tolist() == [[2, 4, 4, 4, 4, 4, 4, 3]]
    assert tokenizer([]).shape == (0, 8)


def test_attributes_are_the_tokenizers(word_pieces, unigrams):
    tokenizer = HFTokenizer(word_pieces)
    assert (tokenizer.vocab_size, tokenizer.pad_token_id) == (19, 0)
    assert tokenizer.eos_token_id is None and tokenizer.context_length == 77
    assert (HFTokenizer(unigrams).eos_token_id, HFTokenizer(unigrams).pad_token_id) == (1, 1)


def test_separator_becomes_zero_if_asked_as_in_open_clip(word_pieces):
    arguments = {"context_length": 8, "strip_sep_token": True}
    ours = HFTokenizer(word_pieces, **arguments)
    assert ours("a cat").tolist() == [[2, 4, 7, 0, 0, 0, 0, 0]]
    assert torch.equal(
        ours(TEXTS), open_clip.tokenizer.HFTokenizer(str(word_pieces), **arguments)(TEXTS)
    )


def test_text_that_does_not_fit_raises_if_it_may_not_be_truncated(word_pieces):
    tokenizer = HFTokenizer(word_pieces, context_length=8)
    texts = ["a cat", "a " * 6]
    assert torch.equal(tokenizer(texts, truncate=False), tokenizer(texts))
    with pytest.raises(TextTooLong, match=r"9 tokens .* context_length is 8: 'a a"):
        tokenizer([*texts, "a " * 7], truncate=False)
    assert tokenizer("a " * 7).shape == (1, 8)


def test_decode_spells_special_tokens_out(word_pieces):
    tokenizer = HFTokenizer(word_pieces, context_length=5)
    ids = tokenizer("a cat")[0]
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == "[CLS] a cat [SEP] [PAD]"
    with pytest.raises(ValueError, match="ids must have one dimension"):
        tokenizer.decode(tokenizer("a cat"))


def test_saved_directory_gives_the_same_ids(word_pieces, tmp_path):
    tokenizer = HFTokenizer(word_pieces)
    tokenizer.save_pretrained(tmp_path)
    assert torch.equal(HFTokenizer(tmp_path)(TEXTS), tokenizer(TEXTS))


@pytest.fixture(scope="module")
def of_nllb(tmp_path_factory):
    """A directory of a tokenizer of NLLB's kind: the language, text, the end."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdot", "▁a"]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=[("▁", "a")])
    directory = tmp_path_factory.mktemp("nllb")
    tokenizer.save_pretrained(directory)
    return directory


def test_a_language_is_marked(of_nllb):
    texts = ["a cat", "a dog"]
    english = HFTokenizer(of_nllb, context_length=9)(texts)
    theirs = open_clip.tokenizer.HFTokenizer(str(of_nllb), context_length=9)
    assert torch.equal(english, theirs(texts))
    german = HFTokenizer(of_nllb, context_length=9, language="deu_Latn")
    # open_clip's `language` is lost with transformers 5, which marks `src_lang` in each call.
    theirs.tokenizer.src_lang = "deu_Latn"
    assert torch.equal(german(texts), theirs(texts))
    mark = german.tokenizer.convert_tokens_to_ids("deu_Latn")
    assert german(texts)[:, 0].tolist() == [mark, mark] and mark != english[0, 0]
    assert torch.equal(german(texts)[:, 1:], english[:, 1:])
    german.set_language("eng_Latn")
    assert torch.equal(german(texts), english)


def test_a_language_that_is_not_marked_is_refused(of_nllb, word_pieces):
    with pytest.raises(ValueError, match="must be one that the tokenizer marks, got 'German'"):
        HFTokenizer(of_nllb, language="German")
    with pytest.raises(ValueError, match="marks no languages"):
        HFTokenizer(word_pieces, language="deu_Latn")


def test_directory_is_never_looked_up_on_the_hub(word_pieces, monkeypatch):
    asked = []
    load = transformers.AutoTokenizer.from_pretrained

    def recorded(source, **arguments):
        asked.append(arguments)
        return load(source, **arguments)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", recorded)
    HFTokenizer(word_pieces)
    assert asked == [{"local_files_only": True, "trust_remote_code": False}]


def test_name_that_transformers_does_not_find_is_said(monkeypatch):
    def nothing(source, **arguments):
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", nothing)
    with pytest.raises(FileNotFoundError, match="finds no tokenizer 'some/name': no connection"):
        HFTokenizer("some/name")


@pytest.mark.parametrize("source", ["/no/such/directory", "./missing", "a/b/c", ""])
def test_path_of_nothing_is_not_taken_for_a_name(source):
    with pytest.raises(FileNotFoundError, match="source must be a directory or a name on the Hub"):
        HFTokenizer(source)


def test_directory_without_a_tokenizer_is_said(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"no tokenizer in .*: it has none of tokenizer\.json"
    ):
        HFTokenizer(tmp_path)


def test_without_transformers_the_error_says_how_to_get_it(word_pieces, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "transformers'):
        HFTokenizer(word_pieces)


def test_tokenizer_without_padding_or_separator_is_rejected(unigrams, tmp_path):
    from tokenizers import Tokenizer, models

    directory = saved(Tokenizer(models.WordPiece({"a": 0}, unk_token="a")), tmp_path)
    with pytest.raises(ValueError, match="must have a padding token"):
        HFTokenizer(directory)
    with pytest.raises(ValueError, match=r"strip_sep_token must be False.* has no separator"):
        HFTokenizer(unigrams, strip_sep_token=True)


@pytest.mark.parametrize(
    "arguments, message",
    [({"context_length": 1}, "context_length"), ({"clean": "upper"}, "clean must be one of")],
)
def test_bad_arguments_are_rejected_before_anything_is_loaded(monkeypatch, arguments, message):
    monkeypatch.setattr(hugging_face, "_load", lambda source: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message):
        HFTokenizer("name", **arguments)


def test_call_rejects_what_is_not_a_text(word_pieces):
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got int"):
        HFTokenizer(word_pieces)(["a", 1])
    with pytest.raises(ValueError, match="context_length must be at least 2, got 0"):
        HFTokenizer(word_pieces)("a", context_length=0)
