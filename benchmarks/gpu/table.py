"""Make the table of `auto` from a run: kernels, dtypes and classes of D that were right."""

from fastclip.backends.gpu import verified
from fastclip.benchmarks.gpu.findings import Content, checks, speed_row
from fastclip.benchmarks.gpu.kernels import ALL
from fastclip.benchmarks.gpu.speed import DECIDES, FORWARD, STEP
from fastclip.benchmarks.gpu.verdict import verdict


def verified_rows(content: Content, before: tuple[verified.Verdict, ...]) -> list[verified.Verdict]:
    """Update the table `before` with this run; rows whose checks failed are removed."""
    host, found = content["host"], checks(content)
    architecture = host.get("architecture")
    rows = {row.key: row for row in before}
    for kernels in ALL if architecture else ():
        for dtype in verified.DTYPES:
            for D in verified.DIMS:
                is_right, _ = verdict(found, kernels, dtype, D)
                if is_right is None:
                    continue
                rows.pop((architecture, dtype, D, kernels.backend, kernels.variant), None)
                at = kernels, dtype, DECIDES, D
                times = [speed_row(content, what, *at).get("seconds") for what in (FORWARD, STEP)]
                if is_right and None not in times:
                    row = verified.Verdict(
                        architecture, dtype, D, kernels.backend, kernels.variant, DECIDES,
                        *(round(1e3 * time, 4) for time in times),
                        host["gpu"], content["date"][:10], content["command"],
                    )  # fmt: skip
                    rows[row.key] = row
    return list(rows.values())
