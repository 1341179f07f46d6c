from fastclip.data.sources.samples import MAX_CAPTION, Sample, with_caption


def test_a_caption_without_end_is_cut_where_no_model_reads_on():
    text = "  e" + "\u0315\u0300" * 500_000
    for caption in (text, text.encode()):
        assert with_caption("a", b"", caption) == Sample("a", b"", text.strip()[:MAX_CAPTION])
    words = "word " * (MAX_CAPTION // 5)
    assert with_caption("a", b"", words).caption == words.strip()
