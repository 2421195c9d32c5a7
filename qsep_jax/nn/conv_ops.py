"""Two-dimensional convolutions whose gradients are fast on every backend.

The separation networks spend nearly all of a step in convolutions. With the options of `qsep_jax.nn.xla`, XLA's CPU
backend is fast for convolutions without stride and with many channels, and slow otherwise: the input gradient of a
strided convolution multiplies by the zeros that the stride inserts; its kernel gradient takes up to twice as long as
necessary; and where the window of a gradient is larger than its image, XLA leaves its fast path (up to 58 times
slower). Therefore, on CPU:

* The input gradient, which is also the forward pass of a transposed convolution, is split into its phases: each output
  phase is a dense convolution of stride 1 with only the kernel taps that reach it; the phases are then interleaved.
* The kernel gradient of a strided convolution, or of one with more padding than taps, is computed by one matrix product
  per row of the kernel, over the strided slices that its taps read. All other kernel gradients use XLA's form, with the
  image that has fewer channels as the input.
* Images of at most `NARROW` channels (a spectrogram, a mask) make matrix products inefficient. The kernel taps then
  form the inner or outer dimension of the product, which is up to 20 times faster.
* Where both images are narrow, neighbouring columns are folded into channels until a product is `WIDE` enough. Its
  kernel repeats the small kernel along a band; this needs more multiplications but takes half the time.

GPU and TPU use XLA's own forms (`jax.lax.platform_dependent`). All forms compute the same sums in another order; the
tests compare them with `jax.lax` in value and in first and second derivative.

Shapes: images `[B, H, W, C]`, kernels `[h, w, C_in, C_out]`, padding `((top, bottom), (left, right))`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

# Images with at most this many channels count as narrow.
NARROW = 4
# Minimal number of channels of an efficient matrix product, measured with 3×3 kernels over 4 to 64 channels.
WIDE = 64

# Name of the results of convolution layers in rematerialisation policies.
CONV = "conv"

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _native(x: Array, kernel: Array, strides: Pair, padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: Array, kernel: Array, strides: Pair, padding: Padding) -> Array:
    """Convolve (cross-correlate) `[B, H, W, C_in]` with `[h, w, C_in, C_out]`, with strides."""
    native = partial(_native, strides=strides, padding=padding)
    (channels, outputs), on_cpu = kernel.shape[2:], native
    narrow = channels <= NARROW or (channels <= 2 * NARROW and outputs <= NARROW)
    if narrow and channels > 1 and _fold(x, kernel.shape, strides, padding) > 1:
        on_cpu = partial(_conv_folded, strides=strides, padding=padding)
    elif channels <= NARROW:
        on_cpu = partial(_conv_narrow, strides=strides, padding=padding)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)


def _conv_forward(x, kernel, strides, padding):
    return conv(x, kernel, strides, padding), (x, kernel)


def _conv_backward(strides, padding, saved, cotangent):
    x, kernel = saved
    return (
        conv_transpose(cotangent, kernel, strides, padding, x.shape[1:3]),
        kernel_gradient(x, cotangent, strides, padding, kernel.shape[:2]),
    )


conv.defvjp(_conv_forward, _conv_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv_transpose(x: Array, kernel: Array, strides: Pair, padding: Padding, size: Pair) -> Array:
    """Apply the adjoint of `conv` in its input: `[B, H', W', C_in]` → `[B, *size, C_out]`.

    The kernel is `[h, w, C_out, C_in]`; `strides` and `padding` are those of that convolution.
    """
    narrow = kernel.shape[2] <= NARROW and strides != (1, 1)
    on_cpu = _transpose_narrow if narrow else _transpose_by_phases
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(on_cpu, strides=strides, padding=padding, size=size),
        default=partial(_transpose_native, strides=strides, padding=padding, size=size),
    )


def _transpose_forward(x, kernel, strides, padding, size):
    return conv_transpose(x, kernel, strides, padding, size), (x, kernel)


def _transpose_backward(strides, padding, size, saved, cotangent):
    x, kernel = saved
    return (
        conv(cotangent, kernel, strides, padding),
        kernel_gradient(cotangent, x, strides, padding, kernel.shape[:2]),
    )


conv_transpose.defvjp(_transpose_forward, _transpose_backward)


def kernel_gradient(x: Array, cotangent: Array, strides: Pair, padding: Padding, window: Pair) -> Array:
    """Compute the gradient of `conv` in its kernel, `[*window, C_in, C_out]`, from its input and output cotangent."""
    shape = (*window, x.shape[-1], cotangent.shape[-1])
    on_cpu = _kernel_gradient_folded if _fold(x, shape, strides, padding) > 1 else _kernel_gradient_by_rows
    # XLA is fast where the output, which is the window of this gradient's convolution, is no larger than the image.
    if strides == (1, 1) and all(sum(pad) < taps for pad, taps in zip(padding, window, strict=True)):
        same_size = all(sum(pad) == taps - 1 for pad, taps in zip(padding, window, strict=True))
        swapped = same_size and cotangent.shape[-1] < x.shape[-1]
        on_cpu = _kernel_gradient_swapped if swapped else _kernel_gradient_native
    return lax.platform_dependent(
        x,
        cotangent,
        cpu=partial(on_cpu, strides=strides, padding=padding, window=window),
        default=partial(_kernel_gradient_native, strides=strides, padding=padding, window=window),
    )


def _transpose_native(x, kernel, *, strides, padding, size):
    image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[2]), x.dtype)
    return jax.linear_transpose(lambda y: _native(y, kernel, strides, padding), image)(x)[0]


def _kernel_gradient_native(x, cotangent, *, strides, padding, window):
    kernel = jax.ShapeDtypeStruct((*window, x.shape[-1], cotangent.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda k: _native(x, k, strides, padding), kernel)(cotangent)[0]


def _transpose_by_phases(x, kernel, *, strides, padding, size):
    outputs = tuple(-(-extent // stride) for extent, stride in zip(size, strides, strict=True))

    def axis_of_phase(axis: int, phase: int) -> tuple[slice, Pair]:
        """Find the kernel taps that reach the outputs `phase, phase + stride, …`, and the padding that aligns them."""
        taps, stride, low = kernel.shape[axis], strides[axis], padding[axis][0]
        first = (phase + low) % stride
        shift = (phase + low - first) // stride
        last = len(range(first, taps, stride)) - 1
        return slice(first, None, stride), (last - shift, outputs[axis] + shift - x.shape[1 + axis])

    def phase_of_image(a: int, b: int) -> Array:
        (rows, row_padding), (columns, column_padding) = axis_of_phase(0, a), axis_of_phase(1, b)
        taps = kernel[rows, columns][::-1, ::-1].swapaxes(2, 3)
        if taps.size == 0:  # a stride larger than the kernel leaves pixels that no tap reaches
            return jnp.zeros((x.shape[0], *outputs, kernel.shape[2]), x.dtype)
        return conv(x, taps, (1, 1), (row_padding, column_padding))

    rows = [jnp.stack([phase_of_image(a, b) for b in range(strides[1])], axis=3) for a in range(strides[0])]
    image = jnp.stack(rows, axis=2)  # [B, H', a, W', b, C]
    image = image.reshape(x.shape[0], outputs[0] * strides[0], outputs[1] * strides[1], kernel.shape[2])
    return image[:, : size[0], : size[1]]


def _taps(x: Array, window: Pair, strides: Pair, padding: Padding) -> list[Array]:
    """Slice `x` into what each kernel tap reads: `h · w` strided slices `[B, H', W', C]`, row by row."""
    height, width = _output_size((x.shape[1], x.shape[2]), window, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def tap(i: int, j: int) -> Array:
        stop = (x.shape[0], i + strides[0] * (height - 1) + 1, j + strides[1] * (width - 1) + 1, x.shape[-1])
        return lax.slice(x, (0, i, j, 0), stop, (1, *strides, 1))

    return [tap(i, j) for i in range(window[0]) for j in range(window[1])]


def _output_size(size: Pair, window: Pair, strides: Pair, padding: Padding) -> Pair:
    height, width = (
        (extent + sum(pad) - taps) // stride + 1
        for extent, taps, stride, pad in zip(size, window, strides, padding, strict=True)
    )
    return height, width


def _kernel_gradient_by_rows(x, cotangent, *, strides, padding, window):
    taps = _taps(x, window, strides, padding)
    group_size = len(taps) if x.shape[-1] <= NARROW else window[1]
    groups = [jnp.concatenate(taps[first : first + group_size], axis=-1) for first in range(0, len(taps), group_size)]
    # Explicit flattening: a product over several dimensions would first copy its operand to a channels-first layout.
    cotangent = cotangent.reshape(-1, cotangent.shape[-1])
    products = [jnp.einsum("mk,mn->kn", group.reshape(-1, group.shape[-1]), cotangent) for group in groups]
    return jnp.stack(products).reshape(*window, x.shape[-1], cotangent.shape[-1])


def _kernel_gradient_swapped(x, cotangent, *, strides, padding, window):
    """Compute the gradient with the roles of input and cotangent swapped: the same sums with the taps reversed."""
    rows, columns = ((taps - 1 - low, taps - 1 - high) for taps, (low, high) in zip(window, padding, strict=True))
    gradient = _kernel_gradient_native(cotangent, x, strides=strides, padding=(rows, columns), window=window)
    return gradient[::-1, ::-1].swapaxes(2, 3)


def _conv_narrow(x, kernel, *, strides, padding):
    taps = _taps(x, kernel.shape[:2], strides, padding)
    products = [tap @ weights for tap, weights in zip(taps, kernel.reshape(-1, *kernel.shape[2:]), strict=True)]
    return sum(products[1:], products[0])


def _transpose_narrow(x, kernel, *, strides, padding, size):
    """Compute all taps in one product, `[B, H', W', h · w · C_out]`, then shift each tap to its position and add."""
    rows, columns, channels, _ = kernel.shape
    products = jnp.einsum("bhwc,kc->bhwk", x, kernel.reshape(-1, kernel.shape[-1]))
    spread = (strides[0] * (x.shape[1] - 1) + 1, strides[1] * (x.shape[2] - 1) + 1)

    def shifted(i: int, j: int) -> Array:
        first = (i * columns + j) * channels
        low = (i - padding[0][0], j - padding[1][0])
        edges = [(low[a], size[a] - low[a] - spread[a], strides[a] - 1) for a in (0, 1)]
        zero = jnp.zeros((), products.dtype)
        return lax.pad(products[..., first : first + channels], zero, ((0, 0, 0), *edges, (0, 0, 0)))

    images = [shifted(i, j) for i in range(rows) for j in range(columns)]
    return sum(images[1:], images[0])


def _fold(x: Array, kernel: tuple[int, ...], strides: Pair, padding: Padding) -> int:
    """Compute how many neighbouring output columns to fold into channels: enough to make a product `WIDE`."""
    columns = _output_size((x.shape[1], x.shape[2]), (kernel[0], kernel[1]), strides, padding)[1]
    fold = 1
    while strides[0] == 1 and kernel[1] >= strides[1] and fold * max(kernel[2:]) < WIDE and columns % (2 * fold) == 0:
        fold *= 2
    return fold


def _slabs(x: Array, fold: int, window: Pair, stride: int, padding: Padding) -> Array:
    """Gather the input columns of each group of `fold` output columns into channels.

    The result is `[B, H + padding, W' / fold, (stride · (fold − 1) + taps) · C]`.
    """
    batch, _, _, channels = x.shape
    columns = (x.shape[2] + sum(padding[1]) - window[1]) // stride + 1
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    step, overlap = stride * fold, window[1] - stride
    groups = x[:, :, : stride * columns].reshape(batch, x.shape[1], columns // fold, step, channels)
    ends = x[:, :, step : step + stride * columns]  # starts with the first columns of the next group
    ends = jnp.pad(ends, ((0, 0), (0, 0), (0, stride * columns - ends.shape[2]), (0, 0)))
    ends = ends.reshape(batch, x.shape[1], columns // fold, step, channels)[:, :, :, :overlap]
    return jnp.concatenate([groups, ends], axis=3).reshape(batch, x.shape[1], columns // fold, -1)


def _band(window: int, fold: int, stride: int, dtype: Any) -> np.ndarray:
    """`[taps, stride · (fold − 1) + taps, fold]`: 1 where a tap of an output column reads a column of its slab."""
    band = np.zeros((window, stride * (fold - 1) + window, fold), dtype)
    for tap in range(window):
        band[tap, tap + stride * np.arange(fold), np.arange(fold)] = 1
    return band


def _conv_folded(x, kernel, *, strides, padding):
    rows, columns, _, outputs = kernel.shape
    height, width = _output_size((x.shape[1], x.shape[2]), (rows, columns), strides, padding)
    fold = _fold(x, kernel.shape, strides, padding)
    slabs = _slabs(x, fold, (rows, columns), strides[1], padding)
    banded = jnp.einsum("ijco,jpq->ipcqo", kernel, _band(columns, fold, strides[1], kernel.dtype))
    banded = banded.reshape(rows, slabs.shape[-1], fold * outputs)
    products = [slabs[:, i : i + height].reshape(-1, slabs.shape[-1]) @ banded[i] for i in range(rows)]
    return sum(products[1:], products[0]).reshape(x.shape[0], height, width, outputs)


def _kernel_gradient_folded(x, cotangent, *, strides, padding, window):
    rows, columns = window
    inputs, outputs, height = x.shape[-1], cotangent.shape[-1], cotangent.shape[1]
    fold = _fold(x, (*window, inputs, outputs), strides, padding)
    slabs = _slabs(x, fold, window, strides[1], padding)
    cotangent = cotangent.reshape(-1, fold * outputs)
    products = [slabs[:, i : i + height].reshape(-1, slabs.shape[-1]).T @ cotangent for i in range(rows)]
    banded = jnp.stack(products).reshape(rows, -1, inputs, fold, outputs)
    return jnp.einsum("ipcqo,jpq->ijco", banded, _band(columns, fold, strides[1], banded.dtype))


def conv_of_constant(vector: Array, kernel: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """Convolve an image of `size` whose pixels all equal `vector` `[B, C_in]`, without creating that image.

    All output pixels are equal except at the border, where some taps fall into the padding. The sum over the taps
    splits into rows and columns, so the cost is one small matrix product and one write of the output.
    """
    outputs = _output_size(size, (kernel.shape[0], kernel.shape[1]), strides, padding)

    def inside(axis: int) -> np.ndarray:
        """`[taps, outputs]`: 1 where the tap reads a pixel, 0 where it reads padding."""
        position = np.arange(kernel.shape[axis])[:, None] + strides[axis] * np.arange(outputs[axis])[None, :]
        position -= padding[axis][0]
        return ((position >= 0) & (position < size[axis])).astype(kernel.dtype)

    products = jnp.einsum("bc,ijco->bijo", vector, kernel)
    by_row = jnp.einsum("bijo,ih->bhjo", products, inside(0))
    columns = inside(1)
    interior = np.flatnonzero(columns.all(axis=0))
    first, stop = (int(interior[0]), int(interior[-1]) + 1) if interior.size else (outputs[1], outputs[1])
    left, right = (jnp.einsum("bhjo,jw->bhwo", by_row, part) for part in (columns[:, :first], columns[:, stop:]))
    shape = (*by_row.shape[:2], stop - first, by_row.shape[-1])
    middle = jnp.broadcast_to(by_row.sum(axis=2, keepdims=True), shape)
    return jnp.concatenate([left, middle, right], axis=2)
