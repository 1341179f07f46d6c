"""The compiler's report on the kernels that were built here."""

import json

import pytest

from fastclip.benchmarks.compilers import cuda as report

needs_a_build = pytest.mark.skipif(report.objection() is not None, reason=str(report.objection()))


@needs_a_build
@pytest.mark.slow
@pytest.mark.compilers
def test_kernels_have_no_problems(capsys):
    """All of them, for the one architecture that has Hopper's too; `make kernels-report` has the
    others, also those where a block has less room."""
    assert report.main(["--json", "--arch", "sm_90a"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["kernel"] for row in rows} == set(report.LAUNCHES)
    for row in rows:
        assert row["spilled_bytes"] == 0 and row["blocks"] >= 1 and row["problems"] == []
        if row["kernel"].startswith("hopper_"):
            assert row["counts"]["warpgroup_products"] >= 4 and row["counts"]["multicasts"] == 1


USAGE = "Function {0}:\n  REG:{1} STACK:{2} SHARED:0 LOCAL:0\n"
NAME = "_ZN8fastclip4cuda20negative_sums_kernelILb0ELNS0_4KeptE2EEEvNS0_12NegativeSumsE"
SASS = "\tFunction : {0}\n /*0*/ HMMA.16816.F32 R0 ;\n /*1*/ LDGSTS.E.BYPASS.128 [R1] ;\n"


@pytest.mark.parametrize(
    "usage, sass, problems",
    [
        (USAGE.format(NAME, 125, 0), SASS.format(NAME), ()),
        (USAGE.format(NAME, 128, 24), SASS.format(NAME), ("spills 24 bytes of registers",)),
        (
            USAGE.format(NAME, 125, 0),
            SASS.format(NAME).replace("HMMA", "FFMA"),
            ("has no products",),
        ),
    ],
)
def test_problems_are_found(monkeypatch, usage, sass, problems):
    monkeypatch.setattr(report, "_cuobjdump", lambda flag, *_: usage if "usage" in flag else sass)
    monkeypatch.setattr(report.library, "architectures", lambda: ("sm_80", "compute_80"))
    (row,) = report.rows(report.library.LIBRARY)
    assert (row.kernel, row.variant, row.problems) == ("negative_sums", "false, 2", problems)


def test_occupancy_is_what_registers_threads_and_shared_memory_leave():
    assert report._blocks("sm_80", 128, 256, 50176) == 2
    assert report._blocks("sm_86", 128, 256, 50176) == 2
    assert report._blocks("sm_86", 129, 256, 50176) == 1
    assert report._blocks("sm_90a", 168, 384, 218112) == 1
    assert report._blocks("sm_86", 32, 384, 218112) == 0
    assert report._blocks("sm_90a", 32, 256, 0) == 8
