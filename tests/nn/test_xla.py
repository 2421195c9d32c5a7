"""Tests of the compiler options of XLA: the defaults on CPU, and the options of the user that override them."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from qsep_jax.nn import xla


@pytest.fixture(autouse=True)
def _forget_defaults():
    """Clear the cached defaults before and after each test."""
    xla._defaults.cache_clear()
    yield
    xla._defaults.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators have one implementation only")
def test_convolutions_on_cpu_do_not_use_ynnpack():
    def program(options):
        image, kernel = jnp.zeros((4, 64, 256, 32)), jnp.zeros((3, 3, 32, 16))
        convolve = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
        convolve = partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.jit(convolve, compiler_options=options).lower(image, kernel).compile().as_text()

    defaults_of_xla = {xla.YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
    if "__ynn_fusion" not in program(xla.options(defaults_of_xla)):
        pytest.skip("this version of XLA does not compute convolutions with YNNPACK")
    assert "__ynn_fusion" not in program(xla.options())


def test_options_of_the_user_override_the_defaults():
    user_options = {f"--{xla.YNNPACK}": "LIBRARY_FUSION_TYPE_DOT", "xla_cpu_enable_fast_min_max": "True"}
    assert xla.options(user_options) == {xla.YNNPACK: "LIBRARY_FUSION_TYPE_DOT", "xla_cpu_enable_fast_min_max": True}


@pytest.mark.parametrize("options", [{"xla_no_such_flag": "1"}, {xla.YNNPACK: "NO_SUCH_VALUE"}])
def test_options_unknown_to_xla(options, monkeypatch):
    """An unknown option of the user is an error; an unknown default, which only affects speed, is dropped."""
    with pytest.raises(ValueError, match=f"train.xla_flags .*{next(iter(options.values()))}"):
        xla.options(options)
    monkeypatch.setattr(xla, "ON_CPU", options)
    assert xla.options() == {}


def test_no_defaults_on_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert xla.options() == {}


def test_jit_compiles_once_for_static_arguments():
    traced = []

    @partial(xla.jit, static_argnums=0)
    def power(exponent, x):
        """Compute a power of x."""
        traced.append(exponent)
        return x**exponent

    assert (power(2, 3.0), power(2, 4.0), power(3, 2.0)) == (9.0, 16.0, 8.0)
    assert traced == [2, 3]
    assert power.__doc__ == "Compute a power of x."
