//! The error of a Winograd convolution compared with the definition. It is derived independently, from the
//! points alone.

use super::Data;
use kernels::{Algorithm, ConvDesc, Size2};

pub fn is_winograd(algorithm: Algorithm) -> bool {
    algorithm.name().starts_with("winograd")
}

/// A kind of tile: its number of outputs, and how far it can spread an error.
pub struct Tile {
    outputs: Size2,
    points: Size2,
    /// The factor from rounding errors of `sum |g| * max |d|` to the error of an output.
    amplification: f64,
}

impl Tile {
    /// The tile of a Winograd algorithm.
    pub fn of(algorithm: Algorithm, desc: &ConvDesc) -> Option<Self> {
        let outputs = match algorithm {
            Algorithm::Winograd2x2 => Size2::square(2),
            Algorithm::Winograd3x3 => Size2::square(3),
            Algorithm::Winograd4x2 => Size2::new(4, 2),
            Algorithm::Winograd4x4 => Size2::square(4),
            Algorithm::Winograd5x5 => Size2::square(5),
            Algorithm::Winograd6x6 => Size2::square(6),
            _ => return None,
        };
        // With a stride, the taps of one phase. An axis along which there is one is not transformed.
        let (kernel, stride) = (desc.kernel(), desc.stride());
        let taps = Size2::new(kernel.h.div_ceil(stride.h), kernel.w.div_ceil(stride.w));
        let of = |outputs, taps| if taps == 1 { 1 } else { outputs };
        let outputs = Size2::new(of(outputs.h, taps.h), of(outputs.w, taps.w));
        let points = Size2::new(outputs.h + taps.h - 1, outputs.w + taps.w - 1);
        let amplification = one_way(outputs.h, taps.h) * one_way(outputs.w, taps.w);
        Some(Self { outputs, points, amplification })
    }

    /// The scale of the error at output `(n, o, y, x)`: the sum over channels of the largest pixel that its
    /// tile reads times all weights, amplified. Also the largest of these pixels, amplified. `computed` is the smaller
    /// convolution that was computed for `desc`.
    pub fn magnitude(
        &self,
        (desc, computed): (&ConvDesc, &ConvDesc),
        data: &Data,
        (n, o, y, x): (usize, usize, usize, usize),
    ) -> (f64, f64) {
        let input = desc.input();
        let channels = input.c / desc.groups();
        let group = o / (desc.output().c / desc.groups());
        let taps = desc.kernel().h * desc.kernel().w;
        // The pixels that a tile reads along one axis. The outputs of a tile are a dilation apart.
        let reads =
            |at: usize, outputs: usize, points: usize, (stride, dilation, before): (usize, usize, usize)| {
                let first = at / (outputs * dilation) * (outputs * dilation) + at % dilation;
                let first = (first * stride).wrapping_sub(before);
                (0..points * stride).map(move |i| first.wrapping_add(i * dilation))
            };
        let (stride, dilation, pad) = (computed.stride(), computed.dilation(), desc.pad());
        let (mut sum, mut largest_of_all) = (0.0, 0.0f64);
        for c in 0..channels {
            let plane = &data.input[(n * input.c + group * channels + c) * input.h * input.w..];
            let mut largest = 0.0f64;
            if computed != desc {
                // Its tiles lie elsewhere. No tile has a larger pixel than the plane.
                let plane = &plane[..input.h * input.w];
                largest = plane.iter().fold(0.0, |most, &value| most.max(f64::from(value).abs()));
            }
            let along_y = (stride.h, dilation.h, pad.top);
            for row in reads(y, self.outputs.h, self.points.h, along_y).filter(|&row| row < input.h) {
                let along_x = (stride.w, dilation.w, pad.left);
                let columns = reads(x, self.outputs.w, self.points.w, along_x);
                for column in columns.filter(|&column| column < input.w) {
                    largest = largest.max(f64::from(plane[row * input.w + column]).abs());
                }
            }
            let weights = &data.filter[(o * channels + c) * taps..][..taps];
            largest_of_all = largest_of_all.max(largest);
            sum += largest * weights.iter().map(|&w| f64::from(w).abs()).sum::<f64>();
        }
        (sum * self.amplification, largest_of_all * self.amplification)
    }
}

/// `max over i of sum over points of |A[i][p]| * max |G[p]| * sum |B[p]|` for the points 0, `+-pairs`, infinity.
pub fn one_way(outputs: usize, weights: usize) -> f64 {
    let pairs: &[f64] = match outputs + weights - 1 {
        1 => return 1.0,
        4 => &[1.0],
        6 => &[2.0 / 3.0, 1.5],
        _ => &[0.5, 1.0, 2.0],
    };
    // The sum of the absolute coefficients of a product of (x^2 - p^2). The signs alternate, so it equals
    // that of (1 + p^2).
    let product = |without: Option<usize>| -> f64 {
        pairs.iter().enumerate().filter(|&(j, _)| Some(j) != without).map(|(_, p)| 1.0 + p * p).product()
    };
    let ends = product(None);
    let of_output = |i: usize| {
        let mut sum = if i == 0 || i + 1 == outputs { ends } else { 0.0 };
        for (j, p) in pairs.iter().enumerate() {
            let others: f64 =
                pairs.iter().enumerate().filter(|&(k, _)| k != j).map(|(_, q)| p * p - q * q).product();
            let a = p.powi(i as i32) / (2.0 * p * p * others).abs();
            let g = p.powi(weights as i32 - 1).max(1.0);
            sum += 2.0 * a * g * (1.0 + p) * product(Some(j));
        }
        sum
    };
    (0..outputs).map(of_output).fold(0.0, f64::max)
}
