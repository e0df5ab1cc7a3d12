//! [`VolumeProblem`]: the data of a 3-D layer in one direction, and expected results by the definition, in `f64`.

use super::VolumeSpec;
use crate::direction::Direction;
use crate::problem::{Errors, Numbers, tolerance};
use crate::values;
use kernels::{Numerics, Shape5};

/// Maximum products computed for the expected results of a layer.
const PRODUCTS: u64 = 20_000_000;

/// A 3-D layer in one direction, with the tensors that it reads, and the expected results at some positions.
///
/// The tensor that the direction computes is empty. A *plain* result is packed in NCDHW, or in the order of the filter if it is
/// the filter's gradient.
pub struct VolumeProblem {
    pub(crate) spec: VolumeSpec,
    pub(crate) direction: Direction,
    pub(crate) input: Vec<f32>,
    pub(crate) filter: Vec<f32>,
    pub(crate) output: Vec<f32>,
    /// Positions in the plain result, with what they should hold.
    expected: Vec<(usize, f64)>,
}

impl VolumeProblem {
    /// The bare layer in `direction`, which is not [`Direction::Transposed`].
    ///
    /// # Panics
    /// If the layer is invalid. The layers of the list are valid.
    pub fn new(spec: &VolumeSpec, direction: Direction, numbers: Numbers) -> Self {
        let desc = spec.builder().build().expect("a layer of the list");
        let len = |shape: Shape5| shape.n * shape.c * shape.d * shape.h * shape.w;
        let (input, filter, output) = (Vec::new(), Vec::new(), Vec::new());
        let mut problem = Self { spec: spec.clone(), direction, input, filter, output, expected: Vec::new() };
        if direction != Direction::Data {
            problem.input = numbers.activations(len(desc.input()));
        }
        if direction != Direction::Weights {
            problem.filter = numbers.weights(desc.filter_len(), problem.products());
        }
        if direction != Direction::Forward {
            problem.output = numbers.gradients(len(desc.output()));
        }
        let indices = problem.indices();
        problem.expected = indices.into_iter().map(|index| (index, problem.at(index))).collect();
        problem
    }

    /// The two tensors that are read, in the order of the peers' requests.
    pub(crate) fn operands(&self) -> [&[f32]; 2] {
        self.direction.operands([&self.input, &self.filter, &self.output])
    }

    /// The extents of the plain result.
    pub(crate) fn result_shape(&self) -> [usize; 5] {
        let VolumeSpec { n, c, d, h, w, o, k, groups, .. } = self.spec;
        let out = |len| self.spec.outputs(len);
        match self.direction {
            Direction::Forward => [n, o, out(d), out(h), out(w)],
            Direction::Data | Direction::Transposed => [n, c, d, h, w],
            Direction::Weights => [o, c / groups, k, k, k],
        }
    }

    /// The relative L2 error above which a result is wrong, as [`Problem::tolerance`](crate::problem::Problem::tolerance).
    pub fn tolerance(&self, numerics: Numerics) -> f64 {
        tolerance(numerics, self.products())
    }

    /// The most products that are summed for an element of the result.
    fn products(&self) -> usize {
        let VolumeSpec { n, c, d, h, w, o, k, groups, .. } = self.spec;
        match self.direction {
            Direction::Forward => c / groups * k.pow(3),
            Direction::Data | Direction::Transposed => o / groups * k.pow(3),
            Direction::Weights => n * [d, h, w].map(|len| self.spec.outputs(len)).iter().product::<usize>(),
        }
    }

    /// The first and the last position, and random ones.
    fn indices(&self) -> Vec<usize> {
        let all: usize = self.result_shape().iter().product();
        let count = (PRODUCTS / self.products() as u64).clamp(16, 20_000) as usize;
        let random = values(count, 4).into_iter().map(|value| (f64::from(value) + 1.0) / 2.0);
        let random = random.map(|value| ((value * all as f64) as usize).min(all - 1));
        [0, all - 1].into_iter().chain(random).collect()
    }

    /// Element `index` of the plain result.
    fn at(&self, index: usize) -> f64 {
        let mut place = [0; 5];
        let mut rest = index;
        for (place, len) in place.iter_mut().zip(self.result_shape()).rev() {
            (*place, rest) = (rest % len, rest / len);
        }
        match self.direction {
            Direction::Forward => self.of_output(place),
            Direction::Data | Direction::Transposed => self.of_input(place),
            Direction::Weights => self.of_filter(place),
        }
    }

    fn of_output(&self, [n, o, z, y, x]: [usize; 5]) -> f64 {
        let VolumeSpec { c, k, groups, .. } = self.spec;
        let (ins, outs) = (c / groups, self.spec.o / groups);
        let mut sum = 0.0;
        for (from, tap) in (0..ins).flat_map(|from| taps(k).map(move |tap| (from, tap))) {
            let channel = o / outs * ins + from;
            if let Some(pixel) = self.input_at([n, channel], [z, y, x], tap) {
                sum += pixel * f64::from(self.filter[self.weight([o, from], tap)]);
            }
        }
        sum
    }

    /// The sum over all outputs that read the input.
    fn of_input(&self, [n, channel, z, y, x]: [usize; 5]) -> f64 {
        let VolumeSpec { c, d, h, w, o, k, stride, pad, dilation, groups, .. } = self.spec;
        let (ins, outs) = (c / groups, o / groups);
        let out = [d, h, w].map(|len| self.spec.outputs(len));
        // The output that reads the position `at` with tap `tap`.
        let reader = |at: usize, tap: usize, len: usize| {
            let ahead = (at + pad).checked_sub(tap * dilation).filter(|ahead| ahead % stride == 0)?;
            Some(ahead / stride).filter(|&reader| reader < len)
        };
        let first = channel / ins * outs;
        let mut sum = 0.0;
        for (from, tap) in (first..first + outs).flat_map(|from| taps(k).map(move |tap| (from, tap))) {
            let readers = [(z, tap[0], out[0]), (y, tap[1], out[1]), (x, tap[2], out[2])];
            if let [Some(z), Some(y), Some(x)] = readers.map(|(at, tap, len)| reader(at, tap, len)) {
                let gradient = self.output[(((n * o + from) * out[0] + z) * out[1] + y) * out[2] + x];
                sum += f64::from(gradient) * f64::from(self.filter[self.weight([from, channel % ins], tap)]);
            }
        }
        sum
    }

    /// The sum over all outputs.
    fn of_filter(&self, [to, within, z, y, x]: [usize; 5]) -> f64 {
        let VolumeSpec { n, c, d, h, w, o, groups, .. } = self.spec;
        let channel = to / (o / groups) * (c / groups) + within;
        let out = [d, h, w].map(|len| self.spec.outputs(len));
        let size = out.iter().product::<usize>();
        let mut sum = 0.0;
        for (image, pixel) in (0..n).flat_map(|image| (0..size).map(move |pixel| (image, pixel))) {
            let at = [pixel / out[2] / out[1], pixel / out[2] % out[1], pixel % out[2]];
            if let Some(input) = self.input_at([image, channel], at, [z, y, x]) {
                sum += input * f64::from(self.output[(image * o + to) * size + pixel]);
            }
        }
        sum
    }

    /// The input that the output at `at` reads with `tap`; `None` in the padding.
    fn input_at(&self, [n, channel]: [usize; 2], at: [usize; 3], tap: [usize; 3]) -> Option<f64> {
        let VolumeSpec { c, d, h, w, stride, pad, dilation, .. } = self.spec;
        let mut index = n * c + channel;
        for ((at, tap), len) in at.into_iter().zip(tap).zip([d, h, w]) {
            let place = (at * stride + tap * dilation).checked_sub(pad).filter(|&place| place < len)?;
            index = index * len + place;
        }
        Some(f64::from(self.input[index]))
    }

    fn weight(&self, [to, from]: [usize; 2], [z, y, x]: [usize; 3]) -> usize {
        let VolumeSpec { c, k, groups, .. } = self.spec;
        (((to * (c / groups) + from) * k + z) * k + y) * k + x
    }

    /// The errors of a result, of which `value` returns an element.
    pub(crate) fn errors(&self, value: impl Fn(usize) -> f32) -> Errors {
        Errors::of(self.expected.iter().map(|&(index, expected)| (value(index), expected)))
    }

    /// The errors of a plain result; infinite if its length is wrong. Peers also return the gradient of a bias.
    pub(crate) fn errors_of_plain(&self, result: &[f32]) -> Errors {
        let len: usize = self.result_shape().iter().product();
        let bias = if self.direction == Direction::Weights { self.spec.o } else { 0 };
        if result.len() != len + bias {
            return Errors::all(f64::INFINITY);
        }
        self.errors(|index| result[index])
    }
}

/// The taps of a cube of `k` on each axis.
fn taps(k: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..k.pow(3)).map(move |tap| [tap / k / k, tap / k % k, tap % k])
}
