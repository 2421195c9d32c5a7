"""Settings and fixtures of all tests: eight simulated devices, and errors for rank promotion.

`pyproject.toml` turns warnings into errors. Tests spend more time on compilation than on execution, so XLA optimizes as
little as possible; comparisons of devices or processes must hold at every level of optimization.
"""

import gc
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)

# The environment is set before jax is imported; commands that tests start in processes of their own inherit it.
_flags = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*_flags, *(flag for flag in FLAGS if flag not in _flags)])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "qsep_jax" / "tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ["MPLBACKEND"] = "Agg"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(50_000, 20, 50)  # traced programs are many small objects, which Python's defaults scan too often


def _has_gpu() -> bool:
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


# By marker: its meaning, and the reason to skip its tests if what they need is missing.
MARKERS = {
    "torch": ("compares with PyTorch", "needs PyTorch: pip install -e '.[twins]'"),
    "gpu": ("runs on a GPU", "needs a GPU that JAX sees, and JAX_PLATFORMS=cuda,cpu"),
    "aot": ("compiles for accelerators that are not here", "needs their compilers: pip install -e '.[aot]'"),
    "slow": ("takes more than five seconds", "takes more than five seconds: needs --slow"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take more than five seconds, too")
    parser.addoption("--kills", type=int, default=8, help="kills of tests/test_kills.py over all commands (8)")
    parser.addoption("--long", action="store_true", help="ten times the work of tests/test_long_runs.py")
    parser.addoption("--kill-seed", type=int, default=0, help="seed of their moments (0)")


def pytest_configure(config: pytest.Config) -> None:
    for name, (meaning, _) in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    available: dict[str, Callable[[], bool]] = {
        "torch": lambda: importlib.util.find_spec("torch") is not None,
        "gpu": _has_gpu,
        "aot": lambda: all(map(importlib.util.find_spec, ("jax_cuda12_plugin", "libtpu"))),
        "slow": lambda: config.getoption("--slow"),
    }
    for name, (_, reason) in MARKERS.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not available[name]():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep commands from changing the warning filters and the log level of the test process."""
    monkeypatch.setattr("data_pipelines.console._set_up", lambda: None)
    monkeypatch.delenv("QSEP_TRACEBACK", raising=False)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny `Lee2019`, which tests share; a test copies it before it changes it."""
    from tests.commands import train_debug

    return train_debug("lee2019.py", tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def score_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny `Lin2021`, which separates, transcribes and synthesizes."""
    from tests.commands import train_debug

    return train_debug("lin2021.py", tmp_path_factory.mktemp("score_run"))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder of audio: a stereo mixture of 1.3 s at 44.1 kHz in 24 bits, and queries."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "mix.wav", rng.uniform(-0.5, 0.5, (57_331, 2)), 44_100, "PCM_24")
    soundfile.write(tmp_path / "query.wav", rng.uniform(-0.5, 0.5, 30_000), 16_000)
    soundfile.write(tmp_path / "other.flac", rng.uniform(-0.5, 0.5, 30_000), 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(30_000), 16_000)
    return tmp_path
