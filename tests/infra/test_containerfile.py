"""infra/image/Containerfile: the facts that break a build or a pod, checked without building."""

import fnmatch
import re
import tomllib

import pytest

from .conftest import ROOT

TEXT = (ROOT / "infra" / "image" / "Containerfile").read_text()
# One instruction a line: comments out, continued lines joined.
LINES = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line.strip()]


def stage(name: str) -> list[tuple[str, str]]:
    """The (instruction, arguments) of one build stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    current = found.setdefault("", [])
    for instruction, arguments in INSTRUCTIONS:
        if instruction == "FROM":
            current = found.setdefault(arguments.split(" AS ")[1], [])
        current.append((instruction, arguments))
    return found[name]


def sources() -> list[str]:
    copies = [arguments.split() for instruction, arguments in INSTRUCTIONS if instruction == "COPY"]
    return [source for copy in copies if not copy[0].startswith("--from=") for source in copy[:-1]]


def test_everything_copied_is_in_the_repository_and_in_the_build_context() -> None:
    ignore = (ROOT / ".containerignore").read_text().splitlines()
    taken = [pattern[1:] for pattern in ignore if pattern.startswith("!")]
    assert "*" in ignore
    assert set(sources()) == set(taken)
    for source in sources():
        assert (ROOT / source).exists(), source


def test_the_whole_distribution_is_copied() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for pattern in include:
        assert any(fnmatch.fnmatch(source, pattern) for source in sources()), pattern


def test_the_base_is_an_argument_with_a_pinned_default() -> None:
    assert INSTRUCTIONS[0] == ["ARG", "BASE=python:3.11-slim"]
    assert ("FROM", "${BASE} AS base") in stage("base")


def installs(name: str) -> list[str]:
    return [
        command.strip().replace("${INSTALL}", INSTALL)
        for instruction, arguments in stage(name)
        if instruction == "RUN"
        for command in arguments.split("&&")
        if "pip install" in command or "${INSTALL}" in command
    ]


(INSTALL,) = [arguments.split("=", 1)[1].strip('"') for name, arguments in stage("builder") if name == "ENV"]


@pytest.mark.parametrize(
    ("name", "lock"), [("builder", "build"), ("pipeline-packages", "pipeline"), ("mlflow-packages", "mlflow")]
)
def test_packages_come_from_the_lock_with_their_hashes_and_bring_nothing_along(name: str, lock: str) -> None:
    first, *others = installs(name)
    assert first.startswith("pip install --no-deps ")
    assert first.endswith(f"--require-hashes -r infra/image/locks/{lock}.txt")
    if name == "pipeline-packages":
        (torch,) = others
        assert torch.endswith('-c constraints.txt "${TORCH}"')
    else:
        assert others == []


def test_ours_brings_nothing_along() -> None:
    assert installs("ours") == [f"{INSTALL} --prefix /opt/glt ."]


def test_what_comes_as_source_is_built_by_what_the_lock_holds() -> None:
    assert INSTALL == "pip install --no-deps --no-build-isolation --use-pep517"


@pytest.mark.parametrize("name", ["ours", "mlflow-packages"])
def test_the_build_ends_with_pip_s_own_check(name: str) -> None:
    assert [arguments for instruction, arguments in stage(name) if instruction == "RUN"][-1].endswith("&& pip check")


def test_torch_is_an_argument() -> None:
    defaults = dict(
        arguments.split("=", 1) for instruction, arguments in stage("pipeline-packages") if instruction == "ARG"
    )
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", defaults["TORCH"])
    assert defaults["TORCH_INDEX_URL"] == ""


@pytest.mark.parametrize("name", ["pipeline", "mlflow"])
def test_images_run_as_a_numeric_user_that_is_not_root(name: str) -> None:
    (user,) = [arguments for instruction, arguments in stage(name) if instruction == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:0", user)


def test_the_default_image_is_the_pipelines_and_carries_the_code_version() -> None:
    assert [arguments for instruction, arguments in INSTRUCTIONS if instruction == "FROM"][-1] == "base AS pipeline"
    (environment,) = [arguments for instruction, arguments in stage("pipeline") if instruction == "ENV"]
    assert "GLT_CODE_VERSION=${GLT_CODE_VERSION}" in environment.split()


@pytest.mark.parametrize("name", ["pipeline", "mlflow"])
def test_labels_say_the_commit_and_the_base(name: str) -> None:
    (labels,) = [arguments for instruction, arguments in stage(name) if instruction == "LABEL"]
    given = {arguments for instruction, arguments in stage(name) if instruction == "ARG"}
    assert {"BASE", "GIT_COMMIT"} <= given
    assert 'org.opencontainers.image.revision="${GIT_COMMIT}"' in labels
    assert 'org.opencontainers.image.base.name="${BASE}"' in labels


def test_a_login_shell_finds_the_image_s_python() -> None:
    (line,) = [arguments for instruction, arguments in stage("base") if "/etc/profile.d/" in arguments]
    assert "export PATH=/opt/venv/bin:$PATH" in line


def test_no_host_is_named() -> None:
    assert "://" not in TEXT
    assert not re.search(r"\b[\w-]+\.(io|org|com|dev)\b/", TEXT)
