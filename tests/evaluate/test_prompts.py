import pytest

from fastclip.evaluate.prompts import objection_to, read_class_names, read_templates
from fastclip.evaluate.zero_shot_task import open_task


@pytest.mark.parametrize(
    "template", ["a photo of a {}.", "{}", "{0} in a {{frame}}", "{0} and {0}", "{:s}", "ein {!s}"]
)
def test_templates_that_can_be_filled_in_are_taken(template):
    assert objection_to(template) is None


@pytest.mark.parametrize(
    "template, message",
    [
        ("a {c} on {background}.", "it has a field {background}"),
        ("a photo of a {} on {background}.", "it has a field {background}"),
        ("a {} and a {}.", "it has more than one field"),
        ("a {} and a {c}.", "it has more than one field"),
        ("a photo of a {{c}}.", "it must contain {} where the class name goes"),
        ("a {} and a {1}.", "its braces cannot be filled in (cannot switch"),
        ("a photo of a {.", "its braces cannot be filled in"),
        ("a photo of a }.", "its braces cannot be filled in"),
        ("a photo of a {:d}.", "its braces cannot be filled in"),
        ("a photo of a {.size}.", "its braces cannot be filled in"),
        ("a photo of a {[a]}.", "its braces cannot be filled in"),
        ("a photo of a {{}}.", "it must contain {} where the class name goes"),
        ("a photo of a {:.3}.", "it must contain {} where the class name goes"),
        ("a photo.", "it must contain {} where the class name goes"),
    ],
)
def test_others_are_refused_with_file_line_and_text(template, message, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(f"a {{}}\n\n{template}\n")
    with pytest.raises(ValueError) as raised:
        read_templates(path)
    read = template.replace("{c}", "{}") if "{{" not in template else template
    assert str(raised.value).startswith(f"{path}, line 3: {read!r} is not a template: {message}")


def test_the_name_goes_where_c_is_in_files(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a photo of a {c}.\nthe {}\n{c} and {c}, no {{c}}\n{{{c}}}\n")
    found = read_templates(path)
    assert found[0] == "a photo of a {}."
    assert [template.format("cat") for template in found] == [
        "a photo of a cat.", "the cat", "cat and cat, no {c}", "{cat}",
    ]  # fmt: skip


@pytest.mark.parametrize("read", [read_templates, read_class_names])
def test_files_without_lines_or_not_in_utf8_are_named(read, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n  \n")
    with pytest.raises(ValueError, match=r"lines.txt is empty"):
        read(path)
    path.write_bytes("un café {}\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"lines.txt must be text in UTF-8"):
        read(path)


def test_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("chat\r\nchien\r\n".encode("utf-8-sig"))
    assert read_class_names(path) == ["chat", "chien"]


def test_built_in_task_takes_names_and_templates_from_files(tmp_path):
    names = [f"class {i}" for i in range(10)]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names))
    assert open_task("digits", path).class_names == names
    path.write_text("a {}\n")
    assert open_task("digits", None, path).templates == ["a {}"]
