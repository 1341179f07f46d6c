from fastclip.data.sources.samples import (
    MAX_CAPTION,
    MAX_CAPTION_BYTES,
    BadSample,
    Sample,
    with_caption,
)


def test_a_caption_without_end_is_cut_where_no_model_reads_on():
    text = "  e" + "\u0315\u0300" * 500_000
    for caption in (text, text.encode()):
        assert with_caption("a", b"", caption) == Sample("a", b"", text.strip()[:MAX_CAPTION])
    words = "word " * (MAX_CAPTION // 5)
    assert with_caption("a", b"", words).caption == words.strip()


def test_a_cut_inside_a_character_is_not_taken_for_damage():
    for character in ("é", "漢", "👩"):
        for offset in range(5):
            text = "a" * offset + character * MAX_CAPTION_BYTES
            found = with_caption("a", b"", text.encode())
            assert found == Sample("a", b"", text[:MAX_CAPTION])
    assert isinstance(with_caption("a", b"", b"caf\xe9"), BadSample)
    assert isinstance(with_caption("a", b"", "é".encode()[:1]), BadSample)
