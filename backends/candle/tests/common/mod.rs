//! Random tensors and views, and comparisons with candle.

#![allow(dead_code, clippy::missing_panics_doc, reason = "not every test uses everything")]

use candle_core::{DType, Device, Result, Tensor};

/// Reproducible numbers between -1 and 1.
pub fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A contiguous tensor of [`numbers`].
pub fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, &Device::Cpu).expect("a tensor")
}

/// How the memory of an input is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Contiguous,
    /// The last images of a larger batch.
    Offset,
    /// Some channels of a wider tensor.
    Channels,
    /// Some columns of a wider tensor.
    Columns,
    /// Channels last in memory.
    ChannelsLast,
    /// Some channels of a wider tensor with channels last in memory.
    ChannelsLastSlice,
    /// The last two axes exchanged in memory.
    Transposed,
    /// One image, repeated without memory.
    Broadcast,
}

pub const VIEWS: [View; 8] = [
    View::Contiguous,
    View::Offset,
    View::Channels,
    View::Columns,
    View::ChannelsLast,
    View::ChannelsLastSlice,
    View::Transposed,
    View::Broadcast,
];

/// A tensor of shape `dims` (`[N, C, L]` or `[N, C, H, W]`) whose memory is arranged as `view` says.
pub fn viewed(dims: &[usize], view: View, seed: u64) -> Result<Tensor> {
    let last = dims.len() - 1;
    let with = |axis: usize, extra: usize| {
        let mut dims = dims.to_vec();
        dims[axis] += extra;
        tensor(&dims, seed)
    };
    // From channels second to channels last, and back.
    let to_last: Vec<usize> = [0].into_iter().chain(2..dims.len()).chain([1]).collect();
    let to_second: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    let memory: Vec<usize> = to_last.iter().map(|&axis| dims[axis]).collect();
    match view {
        View::Contiguous => Ok(with(0, 0)),
        View::Offset => with(0, 2).narrow(0, 2, dims[0]),
        View::Channels => with(1, 3).narrow(1, 1, dims[1]),
        View::Columns => with(last, 2).narrow(last, 1, dims[last]),
        View::ChannelsLast => tensor(&memory, seed).permute(to_second),
        View::ChannelsLastSlice => {
            let mut wide = memory;
            wide[last] += 2;
            tensor(&wide, seed).narrow(last, 1, dims[1])?.permute(to_second)
        }
        View::Transposed => {
            let mut swapped = dims.to_vec();
            swapped.swap(last, last - 1);
            tensor(&swapped, seed).transpose(last, last - 1)
        }
        View::Broadcast => tensor(&dims[1..], seed).broadcast_left(dims[0]),
    }
}

/// The largest difference of two tensors of equal shape, relative to the largest element, but at least to 1: the
/// terms of every sum in the tests are about 1, so a small sum is a difference of large numbers.
pub fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    difference_on_scale(ours, theirs, 1.0)
}

/// The largest difference of two tensors of equal shape, relative to the largest element, but at least to `least`.
pub fn difference_on_scale(ours: &Tensor, theirs: &Tensor, least: f64) -> f64 {
    assert_eq!(ours.dims(), theirs.dims(), "shapes");
    let flat = |tensor: &Tensor| -> Vec<f64> {
        let tensor = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()).expect("numbers");
        tensor.to_vec1().expect("numbers")
    };
    let (ours, theirs) = (flat(ours), flat(theirs));
    let scale = theirs.iter().fold(least, |most, x| most.max(x.abs()));
    let most = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
    // `max` would ignore NaN.
    most.fold(0.0, |worst, x| if x.is_nan() || x > worst { x } else { worst }) / scale
}

/// Asserts that two tensors agree within `tolerance`, relative to the largest element.
pub fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64, what: &str) {
    let difference = difference(ours, theirs);
    assert!(difference <= tolerance, "{what}: difference {difference:e}, tolerance {tolerance:e}");
}
