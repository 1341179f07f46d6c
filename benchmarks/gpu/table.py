"""The table of `auto`, with what this run measured: kernels of which every check passed."""

from fastclip.backends.gpu import verified
from fastclip.benchmarks.gpu.findings import Content, checks, speed_row
from fastclip.benchmarks.gpu.kernels import ALL, Kernels
from fastclip.benchmarks.gpu.speed import DECIDES, FORWARD, STEP


def verified_rows(content: Content, before: tuple[verified.Verdict, ...]) -> list[verified.Verdict]:
    """The table `before`, with what this run checked measured anew: none where a check failed."""
    architecture = content["host"].get("architecture")
    checked = [k for k in ALL if checks(content, k)[0] is not None]
    rows = [
        row
        for row in before
        if row.architecture != architecture or Kernels(*row.kernels) not in checked
    ]
    for kernels in checked if architecture else ():
        if not checks(content, kernels)[0]:
            continue
        for dtype in verified.DTYPES:
            for D in verified.DIMS:
                at = kernels, dtype, DECIDES, D
                times = [speed_row(content, what, *at).get("seconds") for what in (FORWARD, STEP)]
                if None not in times:
                    rows.append(
                        verified.Verdict(
                            architecture, dtype, D, kernels.backend, kernels.variant, DECIDES,
                            *(round(1e3 * time, 4) for time in times),
                            content["host"]["gpu"], content["date"][:10], content["command"],
                        )
                    )  # fmt: skip
    return rows
