"""What ships, and that the places which say the same thing agree: no build and no server needed."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from importlib import import_module
from importlib.metadata import files as installed
from importlib.metadata import metadata, requires, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cargo() -> dict[str, Any]:
    return tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pythons(pyproject: dict[str, Any]) -> list[str]:
    """The versions of Python that the classifiers promise, oldest first."""
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(pyproject["project"]["classifiers"]))
    return sorted(found, key=lambda name: int(name.split(".")[1]))


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))


# --- versions ---


def test_installed_version_is_the_crates(cargo: dict[str, Any]) -> None:
    assert version("adk-psqlpy") == cargo["package"]["version"]


def test_changelog_has_a_section_for_this_version(cargo: dict[str, Any]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{cargo['package']['version']}]" in changelog


def test_lock_file_is_of_this_version(cargo: dict[str, Any]) -> None:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    ours = next(package for package in lock["package"] if package["name"] == cargo["package"]["name"])
    assert ours["version"] == cargo["package"]["version"]


def test_building_by_hand_uses_the_build_systems_maturin(pyproject: dict[str, Any]) -> None:
    assert pyproject["dependency-groups"]["build"] == pyproject["build-system"]["requires"]


def test_oldest_python_is_named_once_and_the_same(pyproject: dict[str, Any], pythons: list[str]) -> None:
    assert pyproject["project"]["requires-python"] == f">={pythons[0]}"
    assert pyproject["tool"]["ruff"]["target-version"] == "py" + pythons[0].replace(".", "")
    assert pyproject["tool"]["mypy"]["python_version"] == pythons[0]


# --- the package ---


@pytest.mark.parametrize("name", ["py.typed", "_native.pyi"])
def test_types_ship(name: str) -> None:
    assert files("adk_psqlpy").joinpath(name).is_file()


def test_public_names_are_listed_and_there() -> None:
    package = import_module("adk_psqlpy")
    source = Path(str(package.__file__)).read_text(encoding="utf-8")
    lists = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    assert lists == [package.__all__], "__all__ is one literal list"
    assert {"PsqlpyConfig", "PsqlpyADKStore", "PsqlpySessionService"} <= set(package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_command_resolves(pyproject: dict[str, Any]) -> None:
    module, _, function = pyproject["project"]["scripts"]["adk-psqlpy"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_installed_metadata_is_the_projects(pyproject: dict[str, Any]) -> None:
    """An install that is older than pyproject.toml would let the other tests pass on yesterday's limits."""

    def canonical(requirement: str) -> str:
        name, _, rest = re.sub(r"\s", "", requirement).partition(";")
        match = re.fullmatch(r"([^<>=!~]+)(.*)", name)
        assert match
        return match[1].lower() + ",".join(sorted(match[2].split(","))) + rest.replace('"', "'")

    expected = {canonical(item) for item in pyproject["project"]["dependencies"]}
    for extra, items in pyproject["project"]["optional-dependencies"].items():
        expected |= {canonical(f"{item}; extra == '{extra}'") for item in items}
    assert {canonical(item) for item in requires("adk-psqlpy") or ()} == expected
    assert metadata("adk-psqlpy")["License-Expression"] == "Apache-2.0"


def test_license_is_the_one_that_is_named() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text("utf-8")


def test_the_citation_is_of_this_version(cargo: dict[str, Any], pyproject: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cargo["package"]["version"]
    assert citation["license"] == pyproject["project"]["license"]
    assert citation["keywords"] == pyproject["project"]["keywords"]


def test_the_changelog_keeps_its_form() -> None:
    """That of Keep a Changelog: versions from the newest down, changes by their kind."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (?:\d{4}-\d{2}-\d{2}|unreleased))?$", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert len(versions) == text.count("\n## ")
    numbers = [tuple(map(int, each.split("."))) for each in versions[1:]]
    assert numbers == sorted(numbers, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
    for section in text.split("\n## ")[1:]:
        headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert len(headings) == len(set(headings)), section[:20]


def test_the_release_checklist_names_every_place_of_the_version(cargo: dict[str, Any]) -> None:
    """Files that hold the version: those that CONTRIBUTING.md lists, and no other in the root."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    checklist = text[text.index("## Releasing") :]
    wanted = re.compile(rf'^version(?: = "|: ){re.escape(cargo["package"]["version"])}"?$', re.MULTILINE)
    holders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_file()
        and path.suffix in {".toml", ".cff", ".yml"}
        and wanted.search(path.read_text("utf-8"))
    }
    assert holders == {"Cargo.toml", "CITATION.cff"}
    for name in (*holders, "Cargo.lock", "CHANGELOG.md"):
        assert f"`{name}`" in checklist


# --- CI ---


def test_ci_runs_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert os.access(script, os.X_OK)


def test_workflow_tests_oldest_and_newest_python(pythons: list[str]) -> None:
    matrix = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == [pythons[0], pythons[-1]]


def test_wheels_are_built_for_every_python_that_is_promised(pythons: list[str]) -> None:
    assert workflow("wheels.yml")["env"]["PYTHONS"].split() == pythons
    builds = [step["with"] for step in steps("wheels.yml") if "maturin-action" in step.get("uses", "")]
    wheels = [build for build in builds if build.get("command", "build") == "build"]
    assert len(wheels) == 2, "linux and native"
    for build in wheels:
        assert build["args"].endswith("-i ${{ env.PYTHONS }}")
    for step in steps("wheels.yml"):
        wanted = str(step.get("with", {}).get("python-version", ""))
        if "\n" in wanted:
            assert wanted.split() == pythons


def built_wheels() -> set[str]:
    """The platforms that wheels are built for, as the artifacts are named."""
    jobs = workflow("wheels.yml")["jobs"]
    linux = {f"{each['libc']}-{each['target']}" for each in jobs["linux"]["strategy"]["matrix"]["include"]}
    return linux | {each["name"] for each in jobs["native"]["strategy"]["matrix"]["include"]}


def test_wheels_are_built_for_every_system_that_is_promised(pyproject: dict[str, Any]) -> None:
    assert built_wheels() == {
        *("manylinux-x86_64", "manylinux-aarch64", "musllinux-x86_64", "musllinux-aarch64"),
        *("macos-x86_64", "macos-arm64", "windows-x64"),
    }
    classifiers = "\n".join(pyproject["project"]["classifiers"])
    for system in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows"):
        assert f"Operating System :: {system}" in classifiers


def test_each_wheel_runs_the_short_suite_in_a_job_of_its_own(pythons: list[str]) -> None:
    """And on glibc it goes through a server."""
    jobs = workflow("wheels.yml")["jobs"]
    suite, musl = jobs["suite"]["strategy"]["matrix"], jobs["musl"]["strategy"]["matrix"]
    assert suite["python"] == musl["python"] == pythons
    tried = {each["name"] for each in suite["platform"]}
    assert tried | {f"musllinux-{each['target']}" for each in musl["platform"]} == built_wheels()
    assert {each["name"] for each in suite["platform"] if each.get("server")} == {
        name for name in tried if name.startswith("manylinux")
    }
    for job in ("suite", "musl"):
        assert "tools/check_wheel.py" in jobs[job]["steps"][-1]["run"]


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_what_an_expression_names_is_there(name: str) -> None:
    """`matrix.a.b` is in the job's matrix, `env.A` in the workflow, and a job that is needed exists.

    A misspelt name is an empty string on the runner, and no schema knows it.
    """
    text = workflow(name)
    for job_name, job in text["jobs"].items():
        matrix = job.get("strategy", {}).get("matrix", {})
        rows = [*matrix.get("include", [])]
        for key, values in matrix.items():
            rows += [{key: value} for value in values] if key != "include" else []
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= set(text["jobs"]), job_name
        for context, path in re.findall(
            r"\$\{\{[^}]*?\b(matrix|env)\.([\w.]+)", yaml.safe_dump(job, width=9999)
        ):
            first, _, second = path.partition(".")
            if context == "env":
                assert first in text["env"], path
                continue
            found = [row[first] for row in rows if first in row]
            assert found, f"{job_name}: matrix.{path}"
            assert not second or any(second in value for value in found), f"{job_name}: matrix.{path}"


def test_only_a_tag_publishes_and_without_a_token() -> None:
    publish = workflow("wheels.yml")["jobs"]["publish"]
    assert "startsWith(github.ref, 'refs/tags/v')" in publish["if"]
    assert publish["permissions"] == {"id-token": "write"}
    assert set(publish["needs"]) == set(workflow("wheels.yml")["jobs"]) - {"publish"}
    assert "secrets." not in (WORKFLOWS / "wheels.yml").read_text(encoding="utf-8")


def test_what_is_published_is_attested() -> None:
    """In a job that can do nothing else; all files of the release, and before they are published."""
    jobs = workflow("wheels.yml")["jobs"]
    attest, publish = jobs["attest"], jobs["publish"]
    assert attest["permissions"] == {"id-token": "write", "attestations": "write"}
    assert attest["if"] == publish["if"]
    fetched, signed = attest["steps"]
    assert fetched == publish["steps"][0]
    assert signed["uses"].startswith("actions/attest-build-provenance@")
    assert signed["with"]["subject-path"] == f"{fetched['with']['path']}/*"


def test_the_bill_of_materials_is_of_the_crates_that_are_locked(cargo: dict[str, Any]) -> None:
    """CycloneDX, as maturin 1.16 writes it into each wheel; tools/check_wheel.py looks at those."""
    (file,) = [each for each in installed("adk-psqlpy") or () if each.match("*.dist-info/sboms/*.json")]
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == cargo["package"]["version"]
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    locked = {(each["name"], each["version"]) for each in lock["package"]}
    named = {(each["name"], each["version"]) for each in bill["components"]}
    assert named <= locked
    # Of the features that the wheel is built with.
    wanted = {name for name in cargo["dependencies"] if name not in {"serde", "serde_json"}}
    assert wanted <= {name for name, _ in named}


def test_dependencies_are_audited_each_week_by_pinned_tools() -> None:
    """The project's own requirements and the lock file, when they change and when advisories do."""
    text = workflow("audit.yml")
    triggers = text[True]  # YAML 1.1 reads `on` so
    assert [set(each) for each in triggers["schedule"]] == [{"cron"}]
    for event in ("push", "pull_request"):
        assert {"Cargo.lock", "pyproject.toml"} <= set(triggers[event]["paths"])
    assert text["permissions"] == {"contents": "read"}
    commands = [step["run"] for step in steps("audit.yml") if "run" in step]
    installs = [each for each in commands if "pip install" in each or "cargo install" in each]
    assert len(installs) == 2
    for each in installs:
        assert re.search(r"(==|--version )\d+\.\d+\.\d+", each), each
    assert [each.split()[0] for each in commands if "audit" in each and each not in installs] == [
        "pip-audit",
        "cargo",
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_actions_are_pinned_by_major_version(name: str) -> None:
    for step in steps(name):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(release/)?v\d+", step["uses"]), step["uses"]


@pytest.mark.parametrize(
    "name",
    [
        "CONTRIBUTING.md",
        "README.md",
        ".ci/run",
        *(f".github/workflows/{path.name}" for path in sorted(WORKFLOWS.glob("*.yml"))),
    ],
)
def test_make_targets_that_are_named_exist(name: str) -> None:
    """In code only: prose may say that something is to make sense."""
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^[ $]*|`|run: |&& )make ([a-z][a-z0-9-]*)", text, re.MULTILINE))
    assert named <= make_targets()
