"""Builds the C++ tests and runs them: as shipped, under ThreadSanitizer, under Address- and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900)


def missing_sanitizer(sanitizer: str, folder: Path) -> str | None:
    """Why programs cannot be built and run under the sanitizer here, or None."""
    assert COMPILER is not None
    program = folder / "probe.cpp"
    program.write_text("int main() { return 0; }\n")
    built = run(COMPILER, f"-fsanitize={sanitizer}", program, "-o", folder / "probe")
    if built.returncode != 0:
        return f"{COMPILER} does not build with -fsanitize={sanitizer}"
    if run(folder / "probe").returncode != 0:
        return f"programs built with -fsanitize={sanitizer} do not start on this machine"
    return None


# Of the builds under a sanitizer: at -O2 checks of every access compile for more than twice as long, threads' a sixth.
OPTIMISATION = {"thread": "-O1 -DNDEBUG", "address,undefined": "-O1 -DNDEBUG"}


@pytest.mark.sanitizer
@pytest.mark.parametrize("sanitizer", ["", "thread", "address,undefined"], ids=["plain", "thread", "address-undefined"])
def test_cpp(sanitizer: str, tmp_path: Path) -> None:
    if not (SOURCE / "CMakeLists.txt").exists():
        pytest.skip("not run from a source tree")
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    if sanitizer and (reason := missing_sanitizer(sanitizer, tmp_path)):
        pytest.skip(reason)
    configured = run(
        "cmake",
        *("-S", SOURCE, "-B", tmp_path / "build", "-G", "Ninja"),
        *("-DRECENGINE_PYTHON=OFF", "-DRECENGINE_TESTS=ON", "-DRECENGINE_WERROR=ON"),
        f"-DCMAKE_CXX_COMPILER={COMPILER}",
        f"-DCMAKE_BUILD_TYPE={'RelWithDebInfo' if sanitizer else 'Release'}",
        f"-DRECENGINE_SANITIZE={sanitizer}",
        f"-DCMAKE_CXX_FLAGS_RELWITHDEBINFO={OPTIMISATION.get(sanitizer, '')}",
    )
    assert configured.returncode == 0, configured.stdout + configured.stderr
    built = run("cmake", "--build", tmp_path / "build")
    assert built.returncode == 0, built.stdout + built.stderr
    tests = ("--test-dir", tmp_path / "build", "--parallel", "2")
    tested = run("ctest", *tests, "--output-on-failure", "--no-tests=error")
    assert tested.returncode == 0, tested.stdout + tested.stderr
