"""Blocks of a page are found with what is said about running them."""

import pytest

from tests.support.doc_blocks import read_blocks

PAGE = """# A page

```python
print(1)
```

```text
1
```

<!-- not run: it needs
a GPU -->
```
make gpu-check
```

And <!-- a comment --> words.

```python
x = 2
```
"""


@pytest.fixture
def write(tmp_path):
    def page(text: str):
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return page


def test_an_output_belongs_to_the_block_before_and_a_mark_to_the_one_behind(write):
    first, second, third = read_blocks(write(PAGE))
    assert (first.language, first.text, first.output) == ("python", "print(1)\n", "1\n")
    assert first.where == "page.md:4" and first.mark is None
    assert second.mark == ("not run", "it needs a GPU") and second.output is None
    assert third.mark is None and third.text == "x = 2\n"


def test_a_mark_of_the_page_is_one_of_all_blocks(write):
    blocks = read_blocks(write(PAGE + "\n<!-- page run by: tests/hosts/test_x.py -->\n"))
    assert [b.mark[0] for b in blocks] == ["run by", "not run", "run by"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("```python\nx = 1\n", "has no end"),
        ("- item\n\n  ```python\n  x = 1\n  ```\n", "indented or has no end"),
        ("words\n\n```text\n1\n```\n", "page.md:4 is an output, and follows no code"),
    ],
)
def test_what_could_be_overlooked_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_blocks(write(text))
