//! Pooling.

use super::{Mode, Run, Unit, Wiring, read, split};
use crate::layer::{AdaptivePool, FractionalPool};
use crate::run::plain;
use crate::train::random::Stream;
use kernels::{ConvError, PoolDesc, PoolKind};

/// Max or average pooling.
pub(in crate::train) struct PoolUnit {
    pub(in crate::train) wiring: Wiring,
    pub(in crate::train) desc: PoolDesc,
}

impl Unit for PoolUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (sources, data) = split(run.arena, run.inputs, &self.wiring.target);
        let (x, y) = (read(&sources, self.wiring.source())?, self.wiring.target.tensor_mut(data)?);
        run.ops.pool(&self.desc, x, y, run.threads)
    }

    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let is_max = self.desc.kind() == PoolKind::Max;
        let x = is_max.then(|| read(&sources, self.wiring.source())).transpose()?;
        run.ops.pool_gradient(
            &self.desc,
            x,
            read(&sources, &self.wiring.dy)?,
            dx.gradient(data)?,
            run.threads,
        )
    }
}

/// Average pooling over windows of unequal extents.
pub(in crate::train) struct AdaptivePoolUnit {
    pub(in crate::train) wiring: Wiring,
}

impl Unit for AdaptivePoolUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let (source, target) = (self.wiring.source(), &self.wiring.target);
        let (sources, data) = split(run.arena, run.inputs, target);
        for (from, to) in source.images(sources.get(source)).zip(target.images_mut(data)) {
            plain::adaptive((from, source.image()), (to, target.image()));
        }
        Ok(())
    }

    /// Each element of a window gets its share of the gradient of the window.
    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (dy, (from, to)) = (&self.wiring.dy, (self.wiring.dy.image(), dx.operand.image()));
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let planes = |image: plain::Image| image.size.h * image.size.w * image.lanes;
        for (dy, dx_image) in dy.images(sources.get(dy)).zip(dx.operand.images_mut(data)) {
            if !dx.adds {
                dx_image.fill(0.0);
            }
            for (dy, dx) in dy.chunks_exact(planes(from)).zip(dx_image.chunks_exact_mut(planes(to))) {
                for (place, pixel) in dy.chunks_exact(from.lanes).enumerate() {
                    let rows = AdaptivePool::window(place / from.size.w, from.size.h, to.size.h);
                    let columns = AdaptivePool::window(place % from.size.w, from.size.w, to.size.w);
                    let share = 1.0 / (rows.len() * columns.len()) as f32;
                    for at in rows.flat_map(|row| columns.clone().map(move |column| row * to.size.w + column))
                    {
                        let to = &mut dx[at * to.lanes..][..to.lanes];
                        to.iter_mut().zip(pixel).for_each(|(to, g)| *to += g * share);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Max pooling over windows at random distances.
pub(in crate::train) struct FractionalPoolUnit {
    wiring: Wiring,
    pool: FractionalPool,
    stream: Stream,
    /// The random numbers of each map: of its columns and of its rows.
    samples: Vec<[f32; 2]>,
    /// Whether the caller set them.
    is_given: bool,
}

impl FractionalPoolUnit {
    pub(in crate::train) fn new(wiring: Wiring, pool: FractionalPool, stream: Stream) -> Self {
        let shape = wiring.source().shape;
        Self { pool, stream, samples: vec![[0.0; 2]; shape.n * shape.c], is_given: false, wiring }
    }
}

impl Unit for FractionalPoolUnit {
    fn wiring_mut(&mut self) -> &mut Wiring {
        &mut self.wiring
    }

    fn forward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        if run.mode == Mode::Training && !self.is_given {
            for (number, sample) in (0..).zip(self.samples.as_flattened_mut()) {
                *sample = self.stream.unit(run.draw, number);
            }
        }
        let (source, target) = (self.wiring.source(), &self.wiring.target);
        let (sources, data) = split(run.arena, run.inputs, target);
        let images = source.images(sources.get(source)).zip(target.images_mut(data));
        for ((from, to), samples) in images.zip(self.samples.chunks_exact(source.shape.c)) {
            let samples = if run.mode == Mode::Training { samples } else { &[] };
            plain::fractional((from, source.image()), (self.pool, samples), (to, target.image()));
        }
        Ok(())
    }

    /// The first of the largest elements of a window gets the gradient.
    fn backward(&mut self, run: &mut Run<'_>) -> Result<(), ConvError> {
        let Some(dx) = self.wiring.dx() else { return Ok(()) };
        let (source, dy) = (self.wiring.source(), &self.wiring.dy);
        let (sources, data) = split(run.arena, run.inputs, &dx.operand);
        let images = source.images(sources.get(source)).zip(dy.images(sources.get(dy)));
        let images = images.zip(dx.operand.images_mut(data)).zip(self.samples.chunks_exact(source.shape.c));
        for (((x, gradient), to), samples) in images {
            if !dx.adds {
                to.fill(0.0);
            }
            let (x, gradient) = ((x, source.image()), (gradient, dy.image()));
            plain::add_to_largest(x, (self.pool, samples), gradient, to);
        }
        Ok(())
    }

    fn set_mask(&mut self, mask: Option<&[f32]>) -> bool {
        let samples = self.samples.as_flattened_mut();
        let is_sample = |x: &f32| (0.0..1.0).contains(x);
        match mask {
            Some(mask) if mask.len() != samples.len() || !mask.iter().all(is_sample) => return false,
            Some(mask) => samples.copy_from_slice(mask),
            None => {}
        }
        self.is_given = mask.is_some();
        true
    }
}
