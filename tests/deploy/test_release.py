"""The release: what stands in its archives, and that a wheel works where nothing else is installed.

The archives are built from this checkout by what `make dist` runs. The wheel gets an environment of its
own, outside the checkout, with the packages that it asks for and no others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stream_detector import __version__
from tests.peers.program import missing
from tests.ports import usual_ports

from .composing import DEPLOY, IS_ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = DEPLOY.parent
TOOLS = Path(sys.executable).parent
DIST_INFO = f"stream_detector-{__version__}.dist-info"
DEMO_S = 3
SAYS_WHERE = (
    "import json, stream_detector, stream_detector.service.assembly as service, importlib.metadata as about;"
    "print(json.dumps([stream_detector.__file__, service.__file__, about.version('stream-detector')]))"
)


def succeed(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command, fail where it fails, and return what it printed."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "NUMBA_CACHE_DIR")
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist of a source tree, and return their paths."""
    succeed(TOOLS / "hatchling", "build", "--directory", target, cwd=source)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheel and the sdist of this checkout."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def package() -> set[str]:
    """Return what the package has to contain: its modules, and the note that they have types."""
    modules = (ROOT / "stream_detector").rglob("*.py")
    return {str(path.relative_to(ROOT)) for path in modules} | {"stream_detector/py.typed"}


def needed(wheel: Path, extra: str) -> Iterator[str]:
    """Yield the names of what a wheel asks for with an extra, at any depth, as it is installed here."""
    with zipfile.ZipFile(wheel) as archive:
        about = message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))
    waiting = list(_asked(about.get_all("Requires-Dist"), {"", extra}))
    seen = set[tuple[str, frozenset[str]]]()
    named = set[str]()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset({"", *wanted.extras})
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += _asked(distribution(name).requires, extras)
        if name not in named:
            named.add(name)
            yield name


def _asked(lines: list[str] | None, extras: Collection[str]) -> Iterator[Requirement]:
    """Yield those of the requirements of a package that hold here, with some of its extras."""
    for requirement in map(Requirement, lines or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def lend(name: str, site_packages: Path) -> None:
    """Put an installed distribution into another environment, without its commands."""
    for file in distribution(name).files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        target = site_packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.locate(), target)
        except OSError:  # another file system
            shutil.copy(file.locate(), target)


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment that holds the wheel and what it asks for, and nothing else, not even pip."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    succeed(sys.executable, "-m", "venv", "--without-pip", home, cwd=home.parent)
    (site_packages,) = home.glob("lib/python3*/site-packages")
    for name in needed(archives[0], "embedded"):
        lend(name, site_packages)
    pip = (sys.executable, "-m", "pip", "--python", home)
    succeed(*pip, "install", "--quiet", "--no-index", "--no-deps", archives[0], cwd=home.parent)
    assert "No broken requirements found" in succeed(*pip, "check", cwd=home.parent)
    return home


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Return a folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(archives: tuple[Path, Path]) -> None:
    """No test, page or benchmark is shipped, nothing compiled, and the licence is."""
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    with zipfile.ZipFile(archives[0]) as wheel:
        assert set(wheel.namelist()) == package() | {f"{DIST_INFO}/{name}" for name in about}
        assert f"Version: {__version__}\n" in wheel.read(f"{DIST_INFO}/METADATA").decode()


def test_the_source_holds_what_makes_the_wheel_and_nothing_else(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    """The wheel that is built from the sdist is the same, to the byte."""
    top = f"stream_detector-{__version__}"
    beside = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    with tarfile.open(archives[1]) as sdist:
        names = {str(PurePosixPath(member.name).relative_to(top)) for member in sdist if member.isfile()}
        assert names == package() | beside
        sdist.extractall(tmp_path, filter="data")
    again, _ = build(tmp_path / top, tmp_path / "dist")
    assert again.name == archives[0].name
    assert again.read_bytes() == archives[0].read_bytes()


def test_what_it_asks_for_is_what_the_lock_holds(archives: tuple[Path, Path]) -> None:
    """Each package that comes with it stands in locks/core.txt, with the version that is tested here."""
    lines = (ROOT / "locks" / "core.txt").read_text().splitlines()
    locked = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line and line[0] not in " #"]
    versions = {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in locked
        if one.marker is None or one.marker.evaluate()
    }
    found = {name: distribution(name).version for name in needed(archives[0], "embedded")}
    assert {"numba", "iotcore"} <= found.keys()
    assert found.items() <= versions.items()


def test_it_says_its_version(installed: Path, empty: Path) -> None:
    """The command, the package and what is known of it when installed name the same."""
    said = succeed(installed / "bin" / "stream-detector", "--version", cwd=empty)
    assert said == f"stream_detector {__version__}\n"
    *files, version = json.loads(succeed(installed / "bin" / "python", "-c", SAYS_WHERE, cwd=empty))
    assert version == __version__
    assert all(Path(file).is_relative_to(installed) for file in files)


def demo(*command: object, cwd: Path, **variables: str) -> str:
    """Run the demo for a moment, and return what it printed."""
    with usual_ports():
        return succeed(*command, "demo", "--duration", DEMO_S, cwd=cwd, **variables)


def test_the_demo_runs(installed: Path, empty: Path) -> None:
    """Installed and started, in an empty folder: the kernels are compiled, the broker and the plant run."""
    said = demo(installed / "bin" / "stream-detector", cwd=empty)
    assert "24 devices found" in said
    assert "Done:" in said
    assert not list(empty.iterdir())


@pytest.mark.parametrize("has_home", [True, False], ids=["a home", "no home"])
def test_it_runs_where_it_cannot_be_written(
    installed: Path, empty: Path, tmp_path: Path, *, has_home: bool
) -> None:
    """A package on a read-only file system compiles into the user's cache, or for one start."""
    if not IS_ROOT:
        missing("only root can make a file system read-only")
    home = tmp_path / "home"
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    said = demo(
        *("unshare", "--mount", "sh", "-c", script, "-", installed),
        installed / "bin" / "stream-detector",
        cwd=empty,
        HOME=str(home) if has_home else "/proc/nowhere",
    )
    assert "24 devices found" in said
    assert bool(list(home.rglob("*.nbi"))) == has_home


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_uv_installs_it_as_a_tool(archives: tuple[Path, Path], empty: Path, tmp_path: Path) -> None:
    """``uv tool install`` of the wheel, with the versions of the lock: the command works, and the demo."""
    where = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    install = (TOOLS / "uv", "tool", "install", "--python", sys.executable)
    versions = ("--constraints", ROOT / "locks" / "core.txt")
    wheel = f"stream-detector[embedded] @ {archives[0].as_uri()}"
    succeed(*install, *versions, wheel, cwd=empty, **where)
    command = tmp_path / "bin" / "stream-detector"
    assert succeed(command, "--version", cwd=empty) == f"stream_detector {__version__}\n"
    assert "Done:" in demo(command, cwd=empty)
