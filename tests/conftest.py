"""What every test shares: the four frameworks, Hypothesis' settings, and a list of skips at the end of a run."""

import hypothesis
import pytest

import frameworks

hypothesis.settings.register_profile("regard", derandomize=True, deadline=None, max_examples=25, database=None)
hypothesis.settings.load_profile("regard")


@pytest.fixture(params=list(frameworks.ALL))
def backend(request):
    """Each of the four frameworks; one that is not installed fails at import, it is never skipped."""
    return frameworks.ALL[request.param]


@pytest.fixture(params=[name for name, framework in frameworks.ALL.items() if framework.differentiable])
def differentiable(request):
    """Each framework that has gradients."""
    return frameworks.ALL[request.param]
