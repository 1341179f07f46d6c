import csv as standard_csv
import gzip
import os
import pickle
import random

import pytest

from fastclip.data.sources import records
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.records import MAX_RECORD_BYTES, parse
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.table_conventions import find_separator
from tests.support.pair_files import assert_resumable, captions, read_all, reasons

SCRIPTS = [
    "a plain caption", "un café à Zürich", "кот на окне", "一只猫在窗台上", "窓辺の猫",
    "창가의 고양이",
    "قطة على النافذة", "חתול על החלון", "खिड़की पर बिल्ली", "แมวที่หน้าต่าง", "γάτα", "კატა",
    "👩‍👩‍👧‍👦 family 🇺🇳", "e\u0301 combined", "line\u2028separator", "next\u0085line",
    "form\x0cfeed and \x0b and \x1c", "\u200fmarks\u200e", "𝕄𝕒𝕥𝕙", "a \U0001f600",
    "zero\u200bwidth",
    'an inch: 5" screen', '"quoted" at the start', "it's; fine, really",
]  # fmt: skip


def table(tmp_path, text: str | bytes, name: str = "pairs.tsv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_reads_rows_with_paths_relative_to_the_file_and_absolute(tmp_path):
    path = table(tmp_path, "title\tid\tfilepath\none\t1\ta/b.jpg\ntwo\t2\t/data/c.jpg\n")
    items = read_all(CsvSource(path))
    assert [item.image for item in items] == [f"{tmp_path}/a/b.jpg", "/data/c.jpg"]
    assert captions(items) == ["one", "two"]
    assert "pairs.tsv" in items[0].key and "a/b.jpg" in items[0].key


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ends_of_lines_byte_order_marks_and_empty_lines_do_not_matter(tmp_path, newline, mark):
    rows = ["filepath,title", "a.jpg,one", "", '"b.jpg","two, three"', "   ", "c.jpg,four"]
    items = read_all(CsvSource(table(tmp_path, mark + newline.join(rows)), separator=","))
    assert captions(items) == ["one", "two, three", "four"] and reasons(items) == []


def test_other_columns_are_found_by_name(tmp_path):
    path = table(tmp_path, "url|caption\nx.png|words\n")
    (item,) = read_all(CsvSource(path, "|", image_key="url", caption_key="caption"))
    assert item.caption == "words" and item.image.endswith("/x.png")


def test_a_missing_column_is_named_with_those_found(tmp_path):
    path = table(tmp_path, "filepath\tcaption\na.jpg\tone\n")
    with pytest.raises(ValueError, match=r"caption_key .*'title'.*\['filepath', 'caption'\]"):
        CsvSource(path)
    with pytest.raises(ValueError, match=r"image_key .*'\\t' the separator"):
        CsvSource(table(tmp_path, "filepath,title\na.jpg,one\n"), "\t")


@pytest.mark.parametrize(
    "header, separator",
    [
        ("filepath,title", ","),
        ("filepath\ttitle", "\t"),
        ("filepath;title;size, in pixels;a, b, c, d", ";"),
        ("note\tfilepath|title", "|"),
        ('"filepath","title"', ","),
    ],
)
def test_a_separator_that_is_not_given_is_found_in_the_header(header, separator, tmp_path):
    num = header.count(separator) - 1
    rows = header + "\n" + separator.join(["a.jpg", "one, or; two", *["x"] * num]) + "\n"
    if separator == "|":
        rows = rows.replace("a.jpg", "a note\tb.jpg").replace("note\tf", "f")
    source = CsvSource(table(tmp_path, rows.replace("one, or; two", "one")))
    assert source.separator == separator
    (item,) = read_all(source)
    assert item.caption == "one"


def test_a_separator_that_is_given_is_obeyed(tmp_path):
    path = table(tmp_path, "filepath,title\tfilepath\ttitle\na,b\tx.png\twords\n")
    (item,) = read_all(CsvSource(path, "\t"))
    assert item.caption == "words"
    assert find_separator("filepath", {"filepath"}) == "\t"  # of one column: open_clip's default
    assert find_separator("url\ttext, in, English", {"filepath", "title"}) == "\t"


def test_a_separator_that_was_guessed_is_said_to_be(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("url\ttext, in, English\nx.jpg\twords\n")
    with pytest.raises(ValueError, match=r"columns are \['url', .*guessed that '\\t' separates"):
        CsvSource(path)


@pytest.mark.parametrize("text", ["", "\n\n", "filepath\ttitle\n"])
def test_a_table_without_rows_raises(tmp_path, text):
    with pytest.raises(ValueError, match="path must be a table"):
        CsvSource(table(tmp_path, text))


@pytest.mark.parametrize(
    "given, meant", [("\\t", "\t"), ("\\|", "|"), ("\\,", ","), ("\\;", ";"), ("\\", "\\")]
)
def test_a_separator_may_be_spelled_as_a_shell_passes_it(tmp_path, given, meant):
    path = table(tmp_path, f"filepath{meant}title\na.jpg{meant}one\n")
    assert captions(read_all(CsvSource(path, given))) == ["one"]


@pytest.mark.parametrize("separator", ["\\s+", "\\d", "\\" + "\t"])
def test_a_pattern_for_a_separator_is_refused(tmp_path, separator):
    with pytest.raises(ValueError, match="not a pattern"):
        CsvSource(table(tmp_path, "filepath\ttitle\na.jpg\tone\n"), separator)


@pytest.mark.parametrize(
    "contents, said",
    [
        ("filepath\ttitle\na\tb\n".encode("utf-16"), "is in UTF-16"),
        ("filepath\ttitle\na\tb\n".encode("utf-16-be"), "zero bytes in its header.*UTF-16"),
        ("filepath\ttitle\na\tb\n".encode("utf-32"), "is in UTF-32"),
        (b"filepath\ttitle\ra\tb\r", "carriage return alone"),
        (gzip.compress(b"filepath\ttitle\na\tb\n", mtime=0), "compressed by gzip"),
        (b"PK\x03\x04 and more", "Excel or zip"),
        (b"PAR1 and more", "Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_in_utf_8_is_named(tmp_path, contents, said):
    with pytest.raises(ValueError, match=f"path must be a table in UTF-8.*{said}"):
        CsvSource(table(tmp_path, contents))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A table of images/0.jpg to 2.jpg in a folder of its own; the working directory is above."""
    (tmp_path / "meta").mkdir()
    rows = "".join(f"images/{i}.jpg\tcaption {i}\n" for i in range(3))
    (tmp_path / "meta" / "t.tsv").write_text("filepath\ttitle\n" + rows)
    monkeypatch.chdir(tmp_path)

    def put(folder, *numbers):
        (tmp_path / folder / "images").mkdir(parents=True)
        for i in numbers:
            (tmp_path / folder / "images" / f"{i}.jpg").touch()

    return tmp_path, put


@pytest.mark.parametrize("inside", ["", "meta"])
@pytest.mark.parametrize("numbers", [(0, 1, 2), (2,)])
def test_paths_are_relative_to_where_the_images_are(places, inside, numbers):
    root, put = places
    put(inside, *numbers)
    source = CsvSource("meta/t.tsv")
    found = [item.image for item in read_all(pickle.loads(pickle.dumps(source)))]
    assert found == [os.path.join(root, inside, f"images/{i}.jpg") for i in range(3)]


def test_images_in_both_places_are_refused_unless_they_are_the_same(places):
    root, put = places
    put("", 1)
    put("meta", 1)
    with pytest.raises(ValueError, match=r"paths of 'meta/t.tsv' must mean one file.*images/1.jpg"):
        CsvSource("meta/t.tsv")
    (root / "meta/images/1.jpg").unlink()
    (root / "meta/images/1.jpg").hardlink_to(root / "images/1.jpg")
    assert read_all(CsvSource("meta/t.tsv"))[0].image == f"{root}/meta/images/0.jpg"


@pytest.mark.parametrize("separator", ["", '"', "\n"])
def test_an_unusable_separator_raises(tmp_path, separator):
    with pytest.raises(ValueError, match="separator"):
        CsvSource(table(tmp_path, "filepath\ttitle\na.jpg\tone\n"), separator)


@pytest.mark.parametrize(
    "row, reason",
    [
        (b"a.jpg", "wrong number of fields"),
        (b"a.jpg\tone\ttwo", "wrong number of fields"),
        (b'a.jpg\t"never closed', "quote is not closed"),
        (b'"a.jpg\tnever closed', "quote is not closed"),
        (b"a.jpg\t\xff\xfe", "row is not UTF-8"),
        (b'a.jpg\t"\xff\xfe', "row is not UTF-8"),
        (b"a.jpg\t ", "empty caption"),
        (b'a.jpg\t""', "empty caption"),
        (b"\tcaption", "no image"),
        (b"https://host/a.jpg?x=1\tcaption", "image is an address and not a local file"),
        (b"s3://bucket/a\tcaption", "image is an address and not a local file"),
        (b"a.jpg\t" + b"x" * MAX_RECORD_BYTES, "row is too long"),
        (b"\x00" * 3 * MAX_RECORD_BYTES, "row is too long"),
        (b"x" * (MAX_RECORD_BYTES - 1), "wrong number of fields"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_bad_row_is_counted_and_takes_no_other_along(tmp_path, row, reason):
    good = [b"b.jpg\tbefore", b"c.jpg\tbehind", b'd.jpg\t"quoted"', b'e.jpg\t5"', b"f.jpg\tlast"]
    source = CsvSource(table(tmp_path, b"\n".join([b"filepath\ttitle", good[0], row, *good[1:]])))
    items = read_all(source)
    assert captions(items) == ["before", "behind", "quoted", '5"', "last"]
    assert reasons(items) == [reason] and source.num_samples() == 6
    assert_resumable(source)


@pytest.mark.parametrize(
    "rows",
    [
        # A later quote would close the first properly, but a row with an image lies between, and
        # the last row shows that who wrote the table did not quote.
        ['a.jpg\t"never closed', "b.jpg\tfirst", 'c.jpg\tan inch: 5"', 'd.jpg\t6" wide'],
        # No name shows that the second is a row, but the quote that would close opens a field.
        ['a\t"never closed', "b\tfirst", 'c\t"an inch: 5"""'],
    ],
)
def test_an_open_quote_ends_with_its_line_if_what_follows_are_rows(tmp_path, rows):
    items = read_all(CsvSource(table(tmp_path, "\n".join(["filepath\ttitle", *rows]))))
    assert captions(items)[:2] == ["first", 'an inch: 5"']
    assert captions(items)[2:] == ['6" wide'][: len(rows) - 3]
    assert reasons(items) == ["quote is not closed"]


@pytest.mark.parametrize(
    "rows",
    [
        # As the Conceptual Captions are written: captions come first, and quotes are not doubled.
        ["title|filepath", '"a" b|0.jpg', '"never closed|1.jpg', 'an end"|2.jpg'],
        ["id|title|filepath", '0|"a" b|0.jpg', '1|"never closed|1.jpg', '2|an end"|2.jpg'],
        # Several captions of one image.
        ["filepath|title", '0.jpg|"a" b', '0.jpg|"never closed', '0.jpg|an end"'],
    ],
)
def test_an_open_quote_in_a_whole_row_does_not_end_in_the_next_row(tmp_path, rows):
    source = CsvSource(table(tmp_path, "\n".join(rows).replace("|", "\t")))
    items = read_all(source)
    assert captions(items) == ["a b", 'an end"'] and reasons(items) == ["quote is not closed"]
    assert_resumable(source)


def test_a_quote_that_closes_in_a_row_of_other_fields_does_not_take_rows_along(tmp_path):
    rows = ['a.jpg\t"never closed', "b.jpg\tfirst", 'c.jpg\t5"\tand more', "d.jpg\tlast"]
    items = read_all(CsvSource(table(tmp_path, "\n".join(["filepath\ttitle", *rows]))))
    assert captions(items) == ["first", "last"]
    assert reasons(items) == ["quote is not closed", "wrong number of fields"]


def test_an_open_quote_takes_no_row_along_whose_own_caption_runs_over_lines(tmp_path):
    # The quote that begins the second row's caption is at the end of its line.
    rows = ['a.jpg\t"never closed', 'b.jpg\t"', 'in a line of its own"', "c.jpg\tlast"]
    source = CsvSource(table(tmp_path, "\n".join(["filepath\ttitle", *rows])))
    items = read_all(source)
    assert captions(items) == ["in a line of its own", "last"]
    assert reasons(items) == ["quote is not closed"]
    assert_resumable(source)


@pytest.mark.parametrize(
    "rows",
    [
        ['a\t"never closed', *['b\tdoubled ""quotes"" do not close it'] * 2000],
        ['a\t"closed"\t"and opened in each row'] * 2000,
        ['a"\t"as if quotes around the row were cut off'] * 2000,
    ],
)
def test_open_quotes_have_lines_behind_them_parsed_a_few_times_only(tmp_path, monkeypatch, rows):
    path, num_parsed = table(tmp_path, "\n".join(["filepath\ttitle", *rows])), 0

    def counted(text, separator):
        nonlocal num_parsed
        num_parsed += len(text)
        return parse(text, separator)

    monkeypatch.setattr(records, "parse", counted)
    assert CsvSource(path).num_samples() == len(rows)
    assert num_parsed < 10 * path.stat().st_size


@pytest.mark.parametrize(
    "rows, expected",
    [
        (['0.jpg|"see', '1.jpg|end"', "2.jpg|ok"], [("0.jpg", "see\n1.jpg|end"), ("2.jpg", "ok")]),
        (
            ['0.jpg|"a list:', "1.jpg|one", "2.jpg|two", '3.jpg|""three"""', "4.jpg|ok"],
            [("0.jpg", 'a list:\n1.jpg|one\n2.jpg|two\n3.jpg|"three"'), ("4.jpg", "ok")],
        ),
        (
            ['0.jpg|"1.jpg|"', '"1.jpg"|"', '2.jpg|two"', "3.jpg", "4.jpg|bad\xff", "5.jpg|ok"],
            [("0.jpg", "1.jpg|"), ("1.jpg", "2.jpg|two"), ("5.jpg", "ok")],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", ["\t", ","])
def test_lines_of_a_quoted_caption_that_look_like_rows_are_none(
    tmp_path, rows, expected, separator
):
    text = "\n".join(["filepath|title", *rows]).replace("|", separator)
    source = CsvSource(table(tmp_path, text.encode("latin-1")), separator)
    found = [(item.image.rsplit("/")[-1], item.caption) for item in read_all(source)
             if isinstance(item, Sample)]  # fmt: skip
    assert found == [(name, text.replace("|", separator).strip()) for name, text in expected]
    assert_resumable(source)


@pytest.mark.parametrize("seed", range(10))
def test_tables_that_keep_to_the_standard_are_read_as_pandas_reads_them(tmp_path, seed):
    pandas = pytest.importorskip("pandas")
    rng = random.Random(seed)
    units = ["a.jpg,b", "\n", "\r\n", '"', "x.png,", ",", " ", "word", "\n1.jpg,2\n", '5"\n']
    columns = rng.sample(["filepath", "title", "id"], 3)
    path = tmp_path / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = standard_csv.DictWriter(file, columns, lineterminator=rng.choice(("\n", "\r\n")))
        writer.writeheader()
        for i in range(100):
            caption = "".join(rng.choices(units, k=rng.randint(1, 6))) + "."
            writer.writerow({"filepath": f"{i}.jpg", "title": caption, "id": i})
    expected = pandas.read_csv(path)
    items = read_all(CsvSource(path, ","))
    assert captions(items) == [title.strip() for title in expected["title"]]
    assert [item.image for item in items] == [f"{tmp_path}/{name}" for name in expected["filepath"]]


def test_a_quoted_caption_may_run_over_lines(tmp_path):
    text = 'filepath,title\na.jpg,"one,\ntwo, ""three""\n\nfour"\r\nb.jpg,five\n'
    source = CsvSource(table(tmp_path, text), separator=",")
    items = read_all(source)
    assert captions(items) == ['one,\ntwo, "three"\n\nfour', "five"] and reasons(items) == []
    assert_resumable(source)


@pytest.mark.parametrize(
    "columns", [("title", "filepath"), ("title", "filepath", "id"), ("id", "title", "filepath")]
)
def test_a_quoted_caption_before_its_image_may_run_over_lines(tmp_path, columns):
    texts = ["one\ntwo, three", "plain", 'four\n"five"\nsix', "\nseven", "eight\n\n"]
    path = tmp_path / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = standard_csv.DictWriter(file, columns)
        writer.writeheader()
        for i, text in enumerate(texts):
            row = {"title": text, "filepath": f"{i}.jpg", "id": i}
            writer.writerow({name: row[name] for name in columns})
    source = CsvSource(path, separator=",")
    items = read_all(source)
    assert captions(items) == [text.strip() for text in texts] and reasons(items) == []
    assert [item.image for item in items] == [f"{tmp_path}/{i}.jpg" for i in range(len(texts))]
    assert_resumable(source)


def test_an_open_quote_before_a_image_takes_no_other_row_along(tmp_path):
    rows = ['"never closed\ta.jpg', "first\tb.jpg", 'an inch: 5" screen\tc.jpg', '"last"\td.jpg']
    items = read_all(CsvSource(table(tmp_path, "\n".join(["title\tfilepath", *rows]))))
    assert captions(items) == ["first", 'an inch: 5" screen', "last"]
    assert reasons(items) == ["quote is not closed"]


def test_many_rows_make_many_parts_that_hold_each_row_once(tmp_path):
    lines = [f"{i}.jpg\tcaption {i}" for i in range(1000)]
    lines[63] = '63.jpg\t"caption\n63"'  # runs over the end of a part
    source = CsvSource(table(tmp_path, "\n".join(["filepath\ttitle", *lines])))
    assert len(source.parts()) == 16 and source.num_samples() == 1000
    found = [caption.replace("\n", " ") for caption in captions(read_all(source))]
    assert found == [f"caption {i}" for i in range(1000)]


def test_every_script_survives_with_and_without_quotes(tmp_path):
    plain = [f"{i}.jpg\t{text}" for i, text in enumerate(SCRIPTS)]
    items = read_all(CsvSource(table(tmp_path, "\n".join(["filepath\ttitle", *plain]))))
    expected = [text.replace('"quoted"', "quoted") for text in SCRIPTS]  # as the csv module reads
    assert captions(items) == [text.strip() for text in expected]

    path = tmp_path / "quoted.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = standard_csv.writer(file, quoting=standard_csv.QUOTE_ALL)
        writer.writerows([("filepath", "title"), *((f"{i}.jpg", t) for i, t in enumerate(SCRIPTS))])
    assert captions(read_all(CsvSource(path, ","))) == [text.strip() for text in SCRIPTS]


@pytest.mark.parametrize("seed", range(5))
def test_parse_agrees_with_the_csv_module_wherever_no_quote_is_open(seed):
    rng = random.Random(seed)
    for _ in range(2000):
        text = "".join(rng.choice('ab ,"""') for _ in range(rng.randint(1, 12)))
        fields = parse(text, ",")
        if not fields.is_open:
            assert fields.values == next(standard_csv.reader([text]))
        try:
            assert next(standard_csv.reader([text], strict=True)) == fields.values
            assert fields.is_strict and not fields.is_open
        except standard_csv.Error:
            assert fields.is_open or not fields.is_strict


@pytest.mark.parametrize("seed", range(30))
def test_random_damage_loses_no_undamaged_row(tmp_path, seed):
    rng = random.Random(seed)
    rows = [f"{i:03d}.jpg\tcaption {i} {rng.choice(SCRIPTS[:-3])}".encode() for i in range(150)]
    rows = [row.replace(b"\t", b'\t"') + b'"' if rng.random() < 0.3 else row for row in rows]
    data, starts = bytearray(b"filepath\ttitle\n"), []
    for row in rows:
        starts.append(len(data))
        data += row + b"\n"
    touched = set()
    for _ in range(8):
        at = rng.randrange(starts[0], len(data))
        data[at] = rng.choice(b'"""\t\n\x00\xffx')
        touched.add(at)
    source = CsvSource(table(tmp_path, bytes(data)))
    items = read_all(source)
    found = [item.caption for item in items if isinstance(item, Sample)]
    for i, (start, row) in enumerate(zip(starts, rows, strict=True)):
        if touched.isdisjoint(range(start - 1, start + len(row) + 1)):
            caption = row.decode().partition("\t")[2]
            assert found.count(parse(caption, "\t").values[0].strip()) == 1, i
    assert_resumable(source)


def test_a_table_that_vanishes_is_a_bad_sample(tmp_path):
    path = table(tmp_path, "filepath\ttitle\na.jpg\tone\n")
    source = CsvSource(path)
    path.unlink()
    assert reasons(read_all(source)) == ["unreadable table"]


def test_source_is_picklable(tmp_path):
    source = CsvSource(table(tmp_path, "filepath\ttitle\na.jpg\tone\n"))
    assert captions(read_all(pickle.loads(pickle.dumps(source)))) == ["one"]


def test_open_quote_before_many_lines_looks_at_some_of_them(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(records, "parse", lambda *args: parsed.append(args) or parse(*args))
    path = tmp_path / "pairs.tsv"
    path.write_text('filepath\ttitle\n1.jpg\t"not closed\n' + "\n" * 2**16 + "2.jpg\tlast\n")
    source = CsvSource(path)
    assert len([entry for part in source.parts() for entry in source.read(part)]) == 2
    assert len(parsed) < 2**15
