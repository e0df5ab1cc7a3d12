//! Trained scales and shifts per channel, alone and behind a sum over windows, and distances to fixed codes.

use super::{Run, Unit, Wiring, all, packed, read, split};
use crate::run::operand::Operand;
use crate::run::plain;
use kernels::{Activation, ConvError, Gradient, PoolDesc, TensorMut, TensorRef};

/// `y = scale[c] * x + shift[c]`, where `x` can be the sum over windows that do not overlap: the subsampling of LeNet-5.
pub(in crate::train) struct ScaleUnit {
    wiring: Wiring,
    params: ScaleParams,
    pool: Option<Windows>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    zeros: Vec<f32>,
    /// `scale * dy`, without gaps.
    gradient: Vec<f32>,
    /// The sum of `dy * x`, and of `dy`, for each channel.
    sums: [Vec<f64>; 2],
}

/// The tensors of the unit among the parameters.
#[derive(Debug, Clone, Copy)]
pub(in crate::train) struct ScaleParams {
    pub(in crate::train) scale: Option<usize>,
    pub(in crate::train) shift: Option<usize>,
    pub(in crate::train) trains: bool,
    pub(in crate::train) accumulates: bool,
}

/// The average over each window.
struct Windows {
    desc: PoolDesc,
    /// Elements of a window.
    count: f32,
    operand: Operand,
    values: Vec<f32>,
}

impl ScaleUnit {
    pub(in crate::train) fn new(
        wiring: Wiring,
        params: ScaleParams,
        pool: Option<PoolDesc>,
    ) -> Result<Self, ConvError> {
        let target = &wiring.target;
        let (c, len) = (target.shape.c, target.shape.len(target.layout)?);
        let pool = pool.map(|desc| Windows {
            count: desc.window().h as f32 * desc.window().w as f32,
            operand: packed(target),
            desc,
            values: vec![0.0; len],
        });
        let [scale, shift, zeros] = [(); 3].map(|()| vec![0.0; c]);
        let sums = [vec![0.0; c], vec![0.0; c]];
        Ok(Self { gradient: vec![0.0; len], wiring, params, pool, scale, shift, zeros, sums })
    }

    /// Reads the parameters. The scale of a sum is that of an average times the elements of the window.
    fn read_params(&mut self, values: &[Vec<f32>]) {
        let count = self.pool.as_ref().map_or(1.0, |pool| pool.count);
        match self.params.scale {
            Some(scale) => {
                self.scale.iter_mut().zip(&values[scale]).for_each(|(to, scale)| *to = scale * count)
            }
            None => self.scale.fill(count),
        }
        match self.params.shift {
            Some(shift) => self.shift.copy_from_slice(&values[shift]),
            None => self.shift.fill(0.0),
        }
    }

    /// The gradients of the scale and the shift.
    fn parameters(&mut self, run: &mut Run<'_>) {
        let ScaleParams { scale, shift, trains, accumulates } = self.params;
        if !trains {
            return;
        }
        let sources = all(run.arena, run.inputs);
        let (x, values) = match &self.pool {
            Some(pool) => (&pool.operand, &pool.values[..]),
            None => (self.wiring.source(), sources.get(self.wiring.source())),
        };
        channel_sums((&self.wiring.dy, sources.get(&self.wiring.dy)), (x, values), &mut self.sums);
        let count = self.pool.as_ref().map_or(1.0, |pool| f64::from(pool.count));
        for (index, sums, factor) in [(scale, &self.sums[0], count), (shift, &self.sums[1], 1.0)] {
            let Some(index) = index else { continue };
            for (to, sum) in run.gradients[index].iter_mut().zip(sums) {
                let before = if accumulates { *to } else { 0.0 };
                *to = before + (factor * sum) as f32;
            }
        }
    }
}

/// The sums of `g * x` and of `g` over images and pixels, for each channel.
fn channel_sums((of_g, g): (&Operand, &[f32]), (of_x, x): (&Operand, &[f32]), sums: &mut [Vec<f64>; 2]) {
    let (pixels, lanes) = (of_g.shape.h * of_g.shape.w, of_g.image().lanes);
    sums.iter_mut().for_each(|sums| sums.fill(0.0));
    for (g, x) in of_g.images(g).zip(of_x.images(x)) {
        let blocks = g.chunks_exact(pixels * lanes).zip(x.chunks_exact(pixels * lanes));
        for (block, (g, x)) in blocks.enumerate() {
            for lane in 0..lanes.min(of_g.shape.c - block * lanes) {
                let pixels = || g[lane..].iter().step_by(lanes).zip(x[lane..].iter().step_by(lanes));
                let channel = block * lanes + lane;
                sums[0][channel] += pixels().map(|(g, x)| f64::from(*g) * f64::from(*x)).sum::<f64>();
                sums[1][channel] += pixels().map(|(g, _)| f64::from(*g)).sum::<f64>();
            }
        }
    }
}

impl Unit for ScaleUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.read_params(run.values);
        let Wiring { target, .. } = &self.wiring;
        let (sources, data) = split(run.arena, run.inputs, target);
        let source = read(&sources, self.wiring.source())?;
        let x = match &mut self.pool {
            Some(Windows { desc, values, .. }) => {
                let to = TensorMut::packed(values, desc.output(), desc.layout())?;
                run.ops.pool(desc, source, to, run.threads)?;
                TensorRef::packed(values, desc.output(), desc.layout())?
            }
            None => source,
        };
        let numbers = (&self.scale[..], &self.shift[..]);
        run.ops.affine(numbers, Activation::None, x, target.tensor_mut(data)?, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        self.parameters(run);
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let dy = &self.wiring.dy;
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let to = TensorMut::packed(&mut self.gradient, dy.shape, dy.layout)?;
        let numbers = (&self.scale[..], &self.zeros[..]);
        run.ops.affine(numbers, Activation::None, read(&sources, dy)?, to, run.threads)?;
        let gradient = TensorRef::packed(&self.gradient, dy.shape, dy.layout)?;
        match (&self.pool, dx.gradient(data)?) {
            (Some(pool), to) => run.ops.pool_gradient(&pool.desc, None, gradient, to, run.threads),
            (None, Gradient::Add(to)) => run.ops.add(gradient, to, Activation::None, run.threads),
            (None, Gradient::Write(to)) => run.ops.copy(gradient, to, run.threads),
        }
    }
}

/// Squared distances to fixed codes.
pub(in crate::train) struct RbfUnit {
    pub(in crate::train) wiring: Wiring,
    /// The codes among the parameters.
    pub(in crate::train) codes: usize,
}

impl Unit for RbfUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Wiring { target, .. } = &self.wiring;
        let source = self.wiring.source();
        let (sources, data) = split(run.arena, run.inputs, target);
        for (from, to) in source.images(sources.get(source)).zip(target.images_mut(data)) {
            plain::rbf(from, &run.values[self.codes], to);
        }
        Ok(())
    }

    /// `dx = sum over the codes of 2 (x - code) dy`.
    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (source, dy, codes) = (self.wiring.source(), &self.wiring.dy, &run.values[self.codes]);
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let images = source.images(sources.get(source)).zip(dy.images(sources.get(dy)));
        for ((x, dy), to) in images.zip(dx.operand.images_mut(data)) {
            if !dx.adds {
                to.fill(0.0);
            }
            for (code, g) in codes.chunks_exact(x.len()).zip(dy) {
                to.iter_mut().zip(x.iter().zip(code)).for_each(|(to, (x, code))| *to += 2.0 * g * (x - code));
            }
        }
        Ok(())
    }
}
