"""Tests see 8 simulated CPU devices, and no network."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models here are tiny: compiling them takes far longer than running them, in the processes that tests start too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# The first flag is the one that a command sets: what is run in this process rounds as a process of its own does.
# Without the fusion emitters compiling takes a third of the time; later jaxlibs do not know that flag, and stop.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_experimental_ynn_fusion_type=reduce"
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)
# No program is compiled twice: what this process and those it starts compile is kept in a folder that is empty at first
# and removed at the end. xdist's workers do not share it, because JAX does not write its files atomically.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="optical_jax-compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import hypothesis
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is no error
hypothesis.settings.load_profile("busy")
jax.config.update("jax_num_cpu_devices", 8)
# A plugin may have imported JAX before.
jax.config.update("jax_disable_most_optimizations", True)
COMPILED = os.environ["JAX_COMPILATION_CACHE_DIR"]
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

CACHE_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
CACHE_BEFORE = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}


@pytest.fixture(autouse=True)
def own_compiled_programs():
    """A study in this process sets where compiled programs are kept; tests after it are not to write there as well."""
    yield
    if any(getattr(jax.config, name) != value for name, value in CACHE_BEFORE.items()):
        for name, value in CACHE_BEFORE.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.fixture(scope="session", autouse=True)
def no_lines_of_mere_progress():
    """On a busy machine a step takes ten seconds, and what a test finds on stderr is not to depend on that."""
    from optical_jax import progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "PLAIN_LINE_SECONDS", float("inf"))
        yield


@pytest.fixture(scope="session")
def student_training(tmp_path_factory):
    """A run of a student, shared by the tests of a worker; so are the two below. See tests/helpers/trainings.py."""
    from tests.helpers.trainings import train_student

    return train_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def teacher_training(tmp_path_factory):
    from tests.helpers.trainings import train_teacher

    return train_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def image_teacher_training(tmp_path_factory):
    from tests.helpers.trainings import train_image_teacher

    return train_image_teacher(tmp_path_factory.mktemp("image_teacher"))


def pytest_unconfigure() -> None:
    shutil.rmtree(COMPILED, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first (with xdist's --no-loadscope-reorder), so that no worker ends with one alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data ($OPTICAL_DATA). It may not be committed, so where it is absent its tests are skipped by name."""
    path = os.environ.get("OPTICAL_DATA", "")
    if not path or not Path(path).is_dir():
        # Licences forbid to commit it; every rule it shows has a test on made-up data beside it.
        pytest.skip("real data absent: set OPTICAL_DATA to its folder")
    return Path(path)


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The real English encoder, in $OPTICAL_MODELS or beside the data. 90 MB are not committed: skipped likewise."""
    roots = [os.environ.get("OPTICAL_MODELS", ""), os.path.join(os.environ.get("OPTICAL_DATA", ""), "..", "models")]
    for root in filter(None, roots):
        path = Path(root) / "all-MiniLM-L6-v2"
        if (path / "model.safetensors").is_file():
            return path.resolve()
    # Its architecture is tested on tiny random weights against transformers, wherever it is absent.
    pytest.skip("real encoder absent: set OPTICAL_MODELS to the folder that holds all-MiniLM-L6-v2")
