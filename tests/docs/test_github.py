"""Workflows call what the Makefile has, and forms ask for what commands print."""

import re
from pathlib import Path

import pytest
import yaml

from fastclip.cli import COMMANDS

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FILES = sorted([*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"])

pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason=".github/ is not beside the tests")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text("utf-8"))


def steps_of(workflow: str) -> list[dict]:
    jobs = read(GITHUB / "workflows" / workflow)["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M)
    return set(phony.replace("\\\n", " ").split())


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_files_are_yaml(path):
    assert isinstance(read(path), dict)


def test_the_workflow_runs_the_two_commands_and_targets_that_are_there():
    commands = [step["run"] for step in steps_of("cpu.yml") if "run" in step]
    assert commands[:2] == ["make demo", "make test"]
    for command in commands:
        make, target = command.split()
        assert make == "make" and target in targets(), command


def test_ci_runs_targets_that_are_there():
    run = re.findall(r"^make ([\w-]+)", (ROOT / ".ci" / "run").read_text(), re.M)
    assert {"test", "test-runs", "docs"} <= set(run) <= targets()


def test_wheels_are_built_beside_each_torch_and_merged():
    workflow = read(GITHUB / "workflows" / "wheels.yml")["jobs"]
    (settings,) = [step["env"] for step in workflow["build"]["steps"] if "env" in step]
    assert settings["CIBW_BUILD_FRONTEND"] == "pip; args: --no-build-isolation"
    choices = re.search(r"CHOICES = \((.*)\)", (ROOT / "setup.py").read_text())[1]
    choice = settings["CIBW_ENVIRONMENT"].split()[0].removeprefix("FASTCLIP_BUILD=")
    assert f'"{choice}"' in choices and choice not in ("auto", "none")
    assert "torch==${{ matrix.torch }}.*" in settings["CIBW_BEFORE_BUILD"]
    project = (ROOT / "pyproject.toml").read_text()
    (setuptools,) = re.findall(r'requires = \["(.*)"\]', project)
    assert f'"{setuptools}"' in settings["CIBW_BEFORE_BUILD"]
    versions = workflow["build"]["strategy"]["matrix"]["torch"]
    (oldest,) = re.findall(r'dependencies = \["torch>=([\d.]+)"', project)
    (newest,) = re.findall(r"^torch==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert versions[0] == oldest and versions[-1] == newest
    (merge,) = [s["run"] for s in workflow["merge"]["steps"] if "merge_wheels" in str(s)]
    assert (ROOT / merge.split()[1]).exists()


def test_forms_and_templates_name_commands_that_are_there():
    for path in [*GITHUB.rglob("*.yml"), GITHUB / "PULL_REQUEST_TEMPLATE.md"]:
        for tool, name in re.findall(r"`(fastclip|make) ([\w-]+)", path.read_text("utf-8")):
            assert name in (COMMANDS if tool == "fastclip" else targets()), f"{path.name}: {name}"


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    citation, project = read(ROOT / "CITATION.cff"), (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{citation["version"]}"' in project
    assert f'\nlicense = "{citation["license"]}"' in project
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    page = (ROOT / "docs" / "citing.md").read_text("utf-8")
    assert f"version = {{{citation['version']}}}" in page


def test_the_makefile_installs_for_the_site_what_the_extra_names():
    (extra,) = re.findall(r"^docs = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    (made,) = re.findall(r"^SITE := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(made.replace("'", '"').split()) == sorted(extra.replace(",", "").split())
