"""What every test shares: the four frameworks, Hypothesis' settings, and a list of skips at the end of a run."""

import os

import hypothesis
import pytest

import frameworks
import regard

hypothesis.settings.register_profile("regard", derandomize=True, deadline=None, max_examples=25, database=None)
hypothesis.settings.load_profile("regard")


def pytest_configure(config):
    """What JAX and Numba compile is kept for the next run: compiling is most of the time that JAX's tests take.

    Which kernel is chosen depends on what is compiled, so all of it is. What is said is English, whatever the machine
    speaks: tests of other languages ask for them.
    """
    os.environ["REGARD_LANGUAGE"] = "en"
    regard.compile()
    frameworks.jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    frameworks.jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    frameworks.jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(params=list(frameworks.ALL))
def backend(request):
    """Each of the four frameworks; one that is not installed fails at import, it is never skipped."""
    return frameworks.ALL[request.param]


@pytest.fixture(params=[name for name, framework in frameworks.ALL.items() if framework.differentiable])
def differentiable(request):
    """Each framework that has gradients."""
    return frameworks.ALL[request.param]
