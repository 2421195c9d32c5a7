"""Options by which XLA compiles: our own on CPU, and above them those of the user."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from qsep_jax.nn import xla


@pytest.fixture(autouse=True)
def unasked():
    """Options are asked for once per process: anew here, and anew afterwards."""
    xla._own.cache_clear()
    yield
    xla._own.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators have one way only")
def test_convolutions_on_cpu_are_not_left_to_ynnpack():
    def program(options):
        image, kernel = jnp.zeros((4, 64, 256, 32)), jnp.zeros((3, 3, 32, 16))
        convolve = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
        convolve = partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.jit(convolve, compiler_options=options).lower(image, kernel).compile().as_text()

    theirs = {xla.YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
    if "__ynn_fusion" not in program(xla.options(theirs)):
        pytest.skip("this version of XLA has no such way")
    assert "__ynn_fusion" not in program(xla.options())


def test_what_is_given_is_above_our_own():
    given = {f"--{xla.YNNPACK}": "LIBRARY_FUSION_TYPE_DOT", "xla_cpu_enable_fast_min_max": "True"}
    assert xla.options(given) == {xla.YNNPACK: "LIBRARY_FUSION_TYPE_DOT", "xla_cpu_enable_fast_min_max": True}


@pytest.mark.parametrize("options", [{"xla_no_such_flag": "1"}, {xla.YNNPACK: "NO_SUCH_VALUE"}])
def test_one_that_xla_does_not_know(options, monkeypatch):
    """Of the user's it is said; of our own, which only make programs faster, a later version need not know."""
    with pytest.raises(ValueError, match=f"train.xla_flags .*{next(iter(options.values()))}"):
        xla.options(options)
    monkeypatch.setattr(xla, "ON_CPU", options)
    assert xla.options() == {}


def test_none_of_our_own_on_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert xla.options() == {}


def test_jit_compiles_once_for_static_arguments():
    traced = []

    @partial(xla.jit, static_argnums=0)
    def power(exponent, x):
        """Of x."""
        traced.append(exponent)
        return x**exponent

    assert (power(2, 3.0), power(2, 4.0), power(3, 2.0)) == (9.0, 16.0, 8.0)
    assert traced == [2, 3]
    assert power.__doc__ == "Of x."
