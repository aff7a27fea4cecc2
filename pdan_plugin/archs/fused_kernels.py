# pyright: basic, reportMissingImports=false, reportArgumentType=false
"""The Triton kernels of PDAN's attention block; :mod:`~pdan_plugin.archs.fused_block` launches them.

Feature maps are (b, C, h, w) and dense: channels-last if LAST, else contiguous. ``size`` is h * w. A program handles
tiles of BLOCK_P pixels with all channels, so sums over the channels need no second pass. BLOCK_C and BLOCK_R are C and
R (the squeezed channels), rounded up to powers of two. All arithmetic is in float32: a value is loaded, cast, computed
with, and rounded once when it is stored. Sums over pixels have two stages, of which the second adds in a fixed order;
there are no atomic additions, so results repeat to the bit. Maxima are written with `where`, which keeps NaN.
"""

import triton
import triton.language as tl

# which arguments are not compiled into a kernel: all that only few programs use
_RUNTIME = ['size', 'parts', 'samples']


@triton.jit
def _tile(sample, first, size, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr):
    """(offsets, mask) of a tile (BLOCK_P, BLOCK_C); 64 bits, as a map may have more than 2**31 elements."""
    pixels = first + tl.arange(0, BLOCK_P)
    channels = tl.arange(0, BLOCK_C)
    inside = (pixels < size)[:, None] & (channels < C)[None, :]
    start = sample.to(tl.int64) * size * C
    if LAST:
        places = start + pixels.to(tl.int64)[:, None] * C + channels[None, :]
    else:
        places = start + pixels[:, None] + channels.to(tl.int64)[None, :] * size
    return places, inside


@triton.jit
def _loaded(pointer, places, inside):
    """In float32, 0 outside. The cast comes first: the interpreter knows no constants of bfloat16."""
    return tl.where(inside, tl.load(pointer + places, mask=inside).to(tl.float32), 0.0)


@triton.jit
def _vector(pointer, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """A number for each channel, float32."""
    places = tl.arange(0, BLOCK)
    return _loaded(pointer, places, places < LENGTH)


@triton.jit
def _store_vector(pointer, values, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    tl.store(pointer + places, values.to(pointer.dtype.element_ty), mask=places < LENGTH)


@triton.jit
def _matrix_places(
    ROW_STEP: tl.constexpr, COLUMN_STEP: tl.constexpr, C: tl.constexpr, R: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):  # fmt: skip
    """(offsets, mask) of a matrix (R, C)."""
    squeezed = tl.arange(0, BLOCK_R)
    channels = tl.arange(0, BLOCK_C)
    inside = (squeezed < R)[:, None] & (channels < C)[None, :]
    return squeezed[:, None] * ROW_STEP + channels[None, :] * COLUMN_STEP, inside


@triton.jit
def _added_parts(pointer, parts, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_PARTS: tl.constexpr):
    """The sum over (parts, C), in a fixed order."""
    channels = tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_C], tl.float32)
    for first in range(0, parts, BLOCK_PARTS):
        rows = first + tl.arange(0, BLOCK_PARTS)
        inside = (rows < parts)[:, None] & (channels < C)[None, :]
        total += tl.sum(_loaded(pointer, rows[:, None] * C + channels[None, :], inside), axis=0)
    return total


@triton.jit
def rectify(features, bias, size, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr):
    """features = ReLU(features + bias), in place. Grid (tiles, samples). Reads one map, writes one."""
    places, inside = _tile(tl.program_id(1), tl.program_id(0) * BLOCK_P, size, C, BLOCK_C, BLOCK_P, LAST)
    value = _loaded(features, places, inside) + _vector(bias, C, BLOCK_C)[None, :]
    value = tl.where(value < 0, 0.0, value)
    tl.store(features + places, value.to(features.dtype.element_ty), mask=inside)


@triton.jit
def rectify_backward(
    gradient, features, features_gradient, sums, size,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """features_gradient = gradient where the ReLU's result is above 0, and its sums over space (samples, parts, C).

    Grid (parts, samples). Reads two maps, writes one.
    """
    part, parts, sample = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    total = tl.zeros([BLOCK_C], tl.float32)
    for first in range(part * BLOCK_P, size, parts * BLOCK_P):
        places, inside = _tile(sample, first, size, C, BLOCK_C, BLOCK_P, LAST)
        value = _loaded(gradient, places, inside)
        value = tl.where(_loaded(features, places, inside) <= 0, 0.0, value)
        tl.store(features_gradient + places, value.to(features_gradient.dtype.element_ty), mask=inside)
        total += tl.sum(value, axis=0)
    _store_vector(sums + (sample * parts + part) * C, total, C, BLOCK_C)


@triton.jit
def reduce_branch(
    branch, bias, project_weight, project_bias, sums, spatial_gate, size,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """Of u = branch + bias: sums over space, sums (samples, parts, C), and spatial_gate (samples, size) =
    sigmoid(project_weight u + project_bias), if SPATIAL. Grid (parts, samples). Reads one map.
    """
    part, parts, sample = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    shift = _vector(bias, C, BLOCK_C)[None, :]
    weight = _vector(project_weight, C, BLOCK_C)[None, :]
    total = tl.zeros([BLOCK_C], tl.float32)
    for first in range(part * BLOCK_P, size, parts * BLOCK_P):
        places, inside = _tile(sample, first, size, C, BLOCK_C, BLOCK_P, LAST)
        value = tl.where(inside, _loaded(branch, places, inside) + shift, 0.0)
        total += tl.sum(value, axis=0)
        if SPATIAL:
            pixels = first + tl.arange(0, BLOCK_P)
            gate = tl.sigmoid(tl.sum(value * weight, axis=1) + tl.load(project_bias).to(tl.float32))
            tl.store(spatial_gate + sample.to(tl.int64) * size + pixels, gate, mask=pixels < size)
    _store_vector(sums + (sample * parts + part) * C, total, C, BLOCK_C)


@triton.jit(do_not_specialize=_RUNTIME)
def channel_gates(
    sums, squeeze_weight, squeeze_bias, excite_weight, excite_bias, mean, hidden, gate, parts, size,
    C: tl.constexpr, R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_PARTS: tl.constexpr,
):  # fmt: skip
    """From the sums of `reduce_branch`: mean (samples, C), hidden (samples, R) = ReLU(squeeze(mean)), gate (samples, C)
    = sigmoid(excite(hidden)). Grid (samples,).
    """
    sample = tl.program_id(0)
    average = _added_parts(sums + sample * parts * C, parts, C, BLOCK_C, BLOCK_PARTS) / size
    places, inside = _matrix_places(C, 1, C, R, BLOCK_C, BLOCK_R)
    squeezed = tl.sum(_loaded(squeeze_weight, places, inside) * average[None, :], axis=1)
    squeezed += _vector(squeeze_bias, R, BLOCK_R)
    squeezed = tl.where(squeezed < 0, 0.0, squeezed)
    places, inside = _matrix_places(1, R, C, R, BLOCK_C, BLOCK_R)
    logits = tl.sum(_loaded(excite_weight, places, inside) * squeezed[:, None], axis=0)
    logits += _vector(excite_bias, C, BLOCK_C)
    _store_vector(mean + sample * C, average, C, BLOCK_C)
    _store_vector(hidden + sample * R, squeezed, R, BLOCK_R)
    _store_vector(gate + sample * C, tl.sigmoid(logits), C, BLOCK_C)


@triton.jit
def add_gated(
    x, branch, bias, gate, spatial_gate, result, size,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """result = x + u * (gate + spatial_gate), u = branch + bias; result may be branch. Grid (tiles, samples).

    Reads two maps, writes one.
    """
    first, sample = tl.program_id(0) * BLOCK_P, tl.program_id(1)
    places, inside = _tile(sample, first, size, C, BLOCK_C, BLOCK_P, LAST)
    factor = _vector(gate + sample * C, C, BLOCK_C)[None, :]
    if SPATIAL:
        pixels = first + tl.arange(0, BLOCK_P)
        factor += _loaded(spatial_gate + sample.to(tl.int64) * size, pixels, pixels < size)[:, None]
    value = _loaded(branch, places, inside) + _vector(bias, C, BLOCK_C)[None, :]
    value = _loaded(x, places, inside) + value * factor
    tl.store(result + places, value.to(result.dtype.element_ty), mask=inside)


@triton.jit
def reduce_gradient(
    gradient, branch, bias, spatial_gate, sums, spatial_gradient, project_sums, size,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """The sums that the gates' gradients need, with g the gradient, u = branch + bias and s the spatial gate.

    sums: (samples, 4, parts, C), over pixels: g u; g; and if SPATIAL g s; p u, where p is the gradient of the spatial
    gate's argument, which is stored in spatial_gradient (samples, size), and summed in project_sums (samples, parts).
    Grid (parts, samples). Reads two maps.
    """
    part, parts, sample = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    shift = _vector(bias, C, BLOCK_C)[None, :]
    by_branch = tl.zeros([BLOCK_C], tl.float32)
    alone = tl.zeros([BLOCK_C], tl.float32)
    by_gate = tl.zeros([BLOCK_C], tl.float32)
    of_weight = tl.zeros([BLOCK_C], tl.float32)
    of_bias = tl.zeros([BLOCK_P], tl.float32)
    for first in range(part * BLOCK_P, size, parts * BLOCK_P):
        places, inside = _tile(sample, first, size, C, BLOCK_C, BLOCK_P, LAST)
        own = _loaded(gradient, places, inside)
        value = tl.where(inside, _loaded(branch, places, inside) + shift, 0.0)
        product = own * value
        by_branch += tl.sum(product, axis=0)
        alone += tl.sum(own, axis=0)
        if SPATIAL:
            pixels = first + tl.arange(0, BLOCK_P)
            at = sample.to(tl.int64) * size + pixels
            gate = _loaded(spatial_gate, at, pixels < size)
            slope = tl.sum(product, axis=1) * gate * (1 - gate)
            tl.store(spatial_gradient + at, slope, mask=pixels < size)
            by_gate += tl.sum(own * gate[:, None], axis=0)
            of_weight += tl.sum(value * slope[:, None], axis=0)
            of_bias += slope
    rows = sums + (sample * 4 * parts + part) * C
    _store_vector(rows, by_branch, C, BLOCK_C)
    _store_vector(rows + parts * C, alone, C, BLOCK_C)
    if SPATIAL:
        _store_vector(rows + 2 * parts * C, by_gate, C, BLOCK_C)
        _store_vector(rows + 3 * parts * C, of_weight, C, BLOCK_C)
        tl.store(project_sums + sample * parts + part, tl.sum(of_bias, axis=0))


@triton.jit(do_not_specialize=_RUNTIME)
def channel_gates_backward(
    sums, project_sums, hidden, gate, squeeze_weight, excite_weight, project_weight,
    gate_gradient, hidden_gradient, spread, bias_gradient, project_gradient, project_bias_gradient, parts, size,
    C: tl.constexpr, R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_PARTS: tl.constexpr,
    SPATIAL: tl.constexpr,
):  # fmt: skip
    """Gradients of one sample, from the sums of `reduce_gradient`. Grid (samples,).

    gate_gradient (samples, C) and hidden_gradient (samples, R): of the arguments of the sigmoid and the ReLU; spread
    (samples, C): what each pixel of u gets from the mean; bias_gradient (samples, C): the sum of u's gradient.
    """
    sample = tl.program_id(0)
    own_sums = sums + sample * 4 * parts * C
    own_gate = _vector(gate + sample * C, C, BLOCK_C)
    of_gate = _added_parts(own_sums, parts, C, BLOCK_C, BLOCK_PARTS) * own_gate * (1 - own_gate)
    places, inside = _matrix_places(1, R, C, R, BLOCK_C, BLOCK_R)
    of_hidden = tl.sum(_loaded(excite_weight, places, inside) * of_gate[None, :], axis=1)
    of_hidden = tl.where(_vector(hidden + sample * R, R, BLOCK_R) <= 0, 0.0, of_hidden)
    places, inside = _matrix_places(C, 1, C, R, BLOCK_C, BLOCK_R)
    of_mean = tl.sum(_loaded(squeeze_weight, places, inside) * of_hidden[:, None], axis=0)
    of_bias = _added_parts(own_sums + parts * C, parts, C, BLOCK_C, BLOCK_PARTS) * own_gate + of_mean
    if SPATIAL:
        of_bias += _added_parts(own_sums + 2 * parts * C, parts, C, BLOCK_C, BLOCK_PARTS)
        of_weight = _added_parts(own_sums + 3 * parts * C, parts, C, BLOCK_C, BLOCK_PARTS)
        _store_vector(project_gradient + sample * C, of_weight, C, BLOCK_C)
        slopes = tl.zeros([BLOCK_PARTS], tl.float32)
        for first in range(0, parts, BLOCK_PARTS):
            rows = first + tl.arange(0, BLOCK_PARTS)
            slopes += _loaded(project_sums + sample * parts, rows, rows < parts)
        slope = tl.sum(slopes, axis=0)
        tl.store(project_bias_gradient + sample, slope)
        of_bias += slope * _vector(project_weight, C, BLOCK_C)
    _store_vector(gate_gradient + sample * C, of_gate, C, BLOCK_C)
    _store_vector(hidden_gradient + sample * R, of_hidden, R, BLOCK_R)
    _store_vector(spread + sample * C, of_mean / size, C, BLOCK_C)
    _store_vector(bias_gradient + sample * C, of_bias, C, BLOCK_C)


@triton.jit(do_not_specialize=_RUNTIME)
def weight_gradients(
    mean, hidden, gate_gradient, hidden_gradient, bias_gradients, project_gradients, project_bias_gradients,
    bias_gradient, squeeze_weight, squeeze_bias, excite_weight, excite_bias, project_weight, project_bias, samples,
    C: tl.constexpr, R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """Adds the samples' gradients in their order, into the gradients of the weights and biases. Grid (1,)."""
    of_squeeze = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    of_excite = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    of_squeeze_bias = tl.zeros([BLOCK_R], tl.float32)
    of_excite_bias = tl.zeros([BLOCK_C], tl.float32)
    of_bias = tl.zeros([BLOCK_C], tl.float32)
    of_project = tl.zeros([BLOCK_C], tl.float32)
    of_project_bias = tl.zeros([1], tl.float32)
    for sample in range(0, samples):
        of_gate = _vector(gate_gradient + sample * C, C, BLOCK_C)
        of_hidden = _vector(hidden_gradient + sample * R, R, BLOCK_R)
        of_squeeze += of_hidden[:, None] * _vector(mean + sample * C, C, BLOCK_C)[None, :]
        of_excite += _vector(hidden + sample * R, R, BLOCK_R)[:, None] * of_gate[None, :]
        of_squeeze_bias += of_hidden
        of_excite_bias += of_gate
        of_bias += _vector(bias_gradients + sample * C, C, BLOCK_C)
        if SPATIAL:
            of_project += _vector(project_gradients + sample * C, C, BLOCK_C)
            of_project_bias += _vector(project_bias_gradients + sample, 1, 1)
    places, inside = _matrix_places(C, 1, C, R, BLOCK_C, BLOCK_R)
    tl.store(squeeze_weight + places, of_squeeze.to(squeeze_weight.dtype.element_ty), mask=inside)
    places, inside = _matrix_places(1, R, C, R, BLOCK_C, BLOCK_R)
    tl.store(excite_weight + places, of_excite.to(excite_weight.dtype.element_ty), mask=inside)
    _store_vector(squeeze_bias, of_squeeze_bias, R, BLOCK_R)
    _store_vector(excite_bias, of_excite_bias, C, BLOCK_C)
    _store_vector(bias_gradient, of_bias, C, BLOCK_C)
    if SPATIAL:
        _store_vector(project_weight, of_project, C, BLOCK_C)
        _store_vector(project_bias, of_project_bias, 1, 1)


@triton.jit
def branch_gradients(
    gradient, gate, spread, spatial_gate, spatial_gradient, project_weight, branch_gradient, size,
    C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, LAST: tl.constexpr, SPATIAL: tl.constexpr,
):  # fmt: skip
    """branch_gradient = gradient * (gate + spatial_gate) + spread + spatial_gradient * project_weight.

    Grid (tiles, samples). Reads one map, writes one.
    """
    first, sample = tl.program_id(0) * BLOCK_P, tl.program_id(1)
    places, inside = _tile(sample, first, size, C, BLOCK_C, BLOCK_P, LAST)
    factor = _vector(gate + sample * C, C, BLOCK_C)[None, :]
    shift = _vector(spread + sample * C, C, BLOCK_C)[None, :]
    if SPATIAL:
        pixels = first + tl.arange(0, BLOCK_P)
        at = sample.to(tl.int64) * size + pixels
        factor += _loaded(spatial_gate, at, pixels < size)[:, None]
        slope = _loaded(spatial_gradient, at, pixels < size)
        shift += slope[:, None] * _vector(project_weight, C, BLOCK_C)[None, :]
    value = _loaded(gradient, places, inside) * factor + shift
    tl.store(branch_gradient + places, value.to(branch_gradient.dtype.element_ty), mask=inside)
