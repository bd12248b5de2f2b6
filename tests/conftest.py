"""Tests see 8 simulated CPU devices, and no network."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models here are tiny: compiling them takes far longer than running them, in the processes that tests start too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import hypothesis
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is no error
hypothesis.settings.load_profile("busy")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)  # a plugin may have imported JAX before

CACHE_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
CACHE_BEFORE = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}


@pytest.fixture(autouse=True)
def own_compiled_programs():
    """A run in this process keeps what is compiled in its folder; tests after it are not to write there as well."""
    yield
    if any(getattr(jax.config, name) != value for name, value in CACHE_BEFORE.items()):
        for name, value in CACHE_BEFORE.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


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
