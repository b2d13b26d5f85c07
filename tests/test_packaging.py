"""The wheel and the source archive: what is in them, that they are the same each time, and that they can be used."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import gradtoken

ROOT = Path(__file__).parent.parent
SOURCES = (
    "src",
    "docs",
    "scripts",
    "benchmarks",
    "README.md",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "pyproject.toml",
)
pytest.importorskip("hatchling", reason="hatchling is not installed")


def built(folder: Path, out: Path, epoch: str = "1700000000") -> tuple[Path, Path]:
    """The wheel and the source archive of a project's folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": epoch})
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def copied(folder: Path) -> Path:
    """The project elsewhere, with other times."""
    folder.mkdir()
    for name in SOURCES:
        place = ROOT / name
        hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(place, folder / name, ignore=hidden) if place.is_dir() else shutil.copy(place, folder / name)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_nothing.py").write_text("")
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 10**7,) * 2)
    return folder


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("built")
    return built(copied(place / "one"), place / "out")


def test_the_wheel_holds_what_the_package_reads_and_nothing_else(archives):
    with zipfile.ZipFile(archives[0]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    package = Path(gradtoken.__file__).parent
    own = {f"gradtoken/{path.relative_to(package)}" for path in package.rglob("*") if path.is_file()}
    own = {name for name in own if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == own
    assert {"gradtoken/py.typed", "gradtoken/models/bundled/model.safetensors", "gradtoken/draw/page.html"} <= own
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert f"Version: {gradtoken.__version__}" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_source_archive_builds_the_same_wheel(archives, tmp_path):
    with tarfile.open(archives[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert {"src", "tests", "scripts", "benchmarks", "docs", "Makefile"} <= {path.name for path in folder.iterdir()}
    wheel, _ = built(folder, tmp_path / "out")
    assert wheel.read_bytes() == archives[0].read_bytes()


def test_two_builds_give_equal_bytes(archives, tmp_path):
    again = built(copied(tmp_path / "elsewhere"), tmp_path / "out")
    for one, other in zip(archives, again, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_another_date_is_another_archive(archives, tmp_path):
    wheel, _ = built(copied(tmp_path / "elsewhere"), tmp_path / "out", epoch="1600000000")
    assert wheel.read_bytes() != archives[0].read_bytes()


USE = """
import gradtoken, numpy, sys
from importlib.resources import files
picture = str(files("gradtoken.models.bundled") / "pictures" / "cat_and_giraffe.jpg")
assert "site-packages" in gradtoken.__file__, gradtoken.__file__
out = gradtoken.explain(picture, target=["cat", "giraffe"])
out.save("both.png"); out.save("both.html"); out.save("both.npz")
again = gradtoken.Explanations.load("both.npz")
assert [one.name for one in again] == ["cat", "giraffe"]
assert numpy.isfinite(again[0].relevance).all()
assert not {"timm", "transformers", "torchvision", "captum", "scipy"} & set(sys.modules)
"""


@pytest.mark.parametrize("kind", ["wheel", pytest.param("sdist", marks=pytest.mark.slow)])
def test_it_is_used_from_an_empty_environment(archives, tmp_path, kind):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python, archive = tmp_path / "env" / "bin" / "python", archives[0] if kind == "wheel" else archives[1]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    asked = [python, "-m", "pip", "download", "--quiet", "--no-deps", "safetensors"]
    if subprocess.run(asked, cwd=tmp_path, env=clean).returncode:
        pytest.skip("no package registry can be reached")
    pip = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", archive]
    subprocess.run(pip, check=True, env=clean)
    subprocess.run([python, "-c", USE], check=True, cwd=tmp_path, env=clean)
    shell = tmp_path / "env" / "bin" / "gradtoken"
    for arguments in (["--help"], ["methods"], ["doctor"], ["demo", "--out", "demo.png"]):
        subprocess.run([shell, *arguments], check=True, cwd=tmp_path, env=clean, capture_output=True)
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    missing = subprocess.run(
        [shell, "doctor", "--model", "timm:x"], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert missing.returncode == 1
    assert "pip install 'gradtoken[timm]'" in missing.stderr
