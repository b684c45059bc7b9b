"""The NEON kernels, cross-compiled and run under user-mode emulation (on an x86-64 machine nothing else runs them)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")


@pytest.mark.emulation
@pytest.mark.skipif(COMPILER is None, reason="needs aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu)")
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-aarch64 (Debian: qemu-user)")
@pytest.mark.parametrize(
    ("test", "architecture"),
    [
        ("kernels_test", "armv8-a"),
        ("halves_test", "armv8-a"),
        ("codes_test", "armv8-a"),
        ("codes_test", "armv8.2-a+dotprod"),  # what compilers for macOS take for granted
    ],
)
def test_neon_kernels_match_the_reference(test: str, architecture: str, tmp_path: Path) -> None:
    assert COMPILER is not None
    assert EMULATOR is not None
    program = tmp_path / test
    sources = [*sorted((ROOT / "cpp" / "kernels").glob("*.cpp")), ROOT / "tests" / "cpp" / f"{test}.cpp"]
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-static", "-pthread", f"-I{ROOT / 'cpp'}"]
    compiled = subprocess.run(
        [COMPILER, *flags, f"-march={architecture}", *map(str, sources), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    every_third_dimension = "3"
    ran = subprocess.run(
        [EMULATOR, str(program), every_third_dimension], capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "neon: ok\n"
