"""Memory that runs out is one line, on the host and on a device."""

import jax
import numpy as np
import pytest

from qsep_jax.command_line import console


def refuse_array() -> None:
    np.empty(2**50)


def refuse_buffer() -> None:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 137438953472 bytes.\nBuffers:\n")


@pytest.mark.parametrize(("main", "reason"), [(refuse_array, "Unable to allocate"), (refuse_buffer, "Out of memory a")])
def test_out_of_memory(main, reason, capsys):
    with pytest.raises(SystemExit) as exit_info:
        console.run(main)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: out of memory ({reason}")
    assert "use smaller batches (--train.batch-size)" in error


def test_other_errors_of_a_device_are_bugs():
    def main() -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something")

    with pytest.raises(jax.errors.JaxRuntimeError):
        console.run(main)
