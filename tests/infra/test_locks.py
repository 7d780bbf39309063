"""infra/image/locks: what the images hold, to the byte; `make lock` writes it."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .conftest import ROOT

LOCKS = ROOT / "infra" / "image" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IN_IMAGE = ("pipeline", "tracking", "data")  # extras
CUDA = re.compile(r"torch|triton|nvidia-(?!ml-py).*|cuda-.*")  # nvidia-ml-py is Python that asks the driver


def text(name: str) -> str:
    return re.sub(r"(?m)^#.*\n", "", (LOCKS / name).read_text())


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    found = {}
    for entry in text(name).replace("\\\n", "").splitlines():
        pin, *hashes = entry.split()
        package, version = pin.split("==")
        assert package not in found
        found[package] = (version, hashes)
    return found


def requirements(name: str) -> list[Requirement]:
    """The requirements that a lock resolves."""
    if name == "pipeline.txt":
        extras = [line for extra in IN_IMAGE for line in PROJECT["optional-dependencies"][extra]]
        return [Requirement(line) for line in PROJECT["dependencies"] + extras]
    return [Requirement(line) for line in text(name.replace(".txt", ".in")).splitlines()]


CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
each_lock = pytest.mark.parametrize("name", sorted(path.name for path in LOCKS.glob("*.txt") if path.stem != "cuda"))


@each_lock
def test_every_package_has_the_version_that_the_tests_ran_with(name: str) -> None:
    assert {package: version for package, (version, _) in locked(name).items()}.items() <= CONSTRAINTS.items()


@each_lock
def test_every_package_has_hashes_and_nothing_else(name: str) -> None:
    for package, (_, hashes) in locked(name).items():
        assert hashes, package
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", found) for found in hashes), package


@each_lock
def test_everything_asked_for_is_there(name: str) -> None:
    there = locked(name)
    for requirement in requirements(name):
        package = canonicalize_name(requirement.name)
        if package == "torch":
            continue  # stands apart
        assert requirement.specifier.contains(there[package][0]), requirement


@each_lock
def test_torch_and_cuda_stand_apart(name: str) -> None:
    assert [package for package in locked(name) if CUDA.fullmatch(package)] == []


@each_lock
def test_no_host_and_no_folder_is_named(name: str) -> None:
    assert not re.search(r"://|/\w+/|--(index|extra|find)", (LOCKS / name).read_text())


def test_what_is_left_out_is_cuda_s_only() -> None:
    assert all(CUDA.fullmatch(line) and line != "torch" for line in text("cuda.txt").splitlines())


def test_our_own_build_needs_what_the_build_lock_holds() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(locked("build.txt")[requirement.name][0])
