"""What is no visible character is written as an escape, wherever text of others is printed."""

import pytest

from fastclip.data.loading.bad_samples import BadSamples, DataError
from fastclip.data.sources.samples import BadSample
from fastclip.printable import printable, printable_lines
from fastclip.train.log.run_log import RunLog

EVIL = "0001\x1b[2J\n2026-11-29,10:00:00 | INFO | all is well\r\u202e\udce9"
SHOWN = r"0001\x1b[2J\n2026-11-29,10:00:00 | INFO | all is well\r\u202e\udce9"


@pytest.mark.parametrize(
    "text, expected",
    [
        (EVIL, SHOWN),
        ("日本語 é\t🙂", "日本語 é\t🙂"),
        ("a\\n", "a\\n"),
        ("\0\U000e0001", r"\x00\U000e0001"),
    ],
)
def test_escapes_are_pythons_and_letters_stay(text, expected):
    assert printable(text) == expected
    printable(text).encode()


def test_long_text_is_cut_and_lines_of_a_message_stay():
    assert printable("a\nb" * 3, longest=4) == r"a\nba..."
    assert printable_lines("one\x07\n  two\r\n") == "one\\x07\n  two\\r\n"


def test_account_of_bad_samples_and_errors_of_data_hold_no_escapes():
    account = BadSamples(num_seen=2)
    account.add(BadSample(EVIL, "no image", EVIL * 1000))
    account.add(BadSample("x", "." + EVIL, lost=0))
    assert account.examples["no image"][0].startswith(f"{SHOWN}: {SHOWN}")
    lines = account.report().splitlines()
    assert len(lines) == 2 and SHOWN in lines[0] and len(lines[1]) < 1000
    assert str(DataError(f"{account.report()} \x1b")).endswith(r" \x1b")


def test_log_has_a_line_per_message(tmp_path, capsys):
    log = RunLog(tmp_path)
    log.say(EVIL)
    log.warn(EVIL)
    log.parameters({"train_data": EVIL, "lr": 0.1})
    log.close()
    for text in ((tmp_path / "out.log").read_text(), capsys.readouterr().out):
        assert [line.split(" | ", 2)[2] for line in text.splitlines()] == [SHOWN, SHOWN]
    assert (tmp_path / "params.txt").read_text() == f"lr: 0.1\ntrain_data: {SHOWN}\n"
