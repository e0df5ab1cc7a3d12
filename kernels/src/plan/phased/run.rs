//! A run of a [`PhasedPlan`]: the loops over images and phases, and the copies around them.

use super::rooms::{Parts, Room};
use super::{Added, PhasePlan, PhasedPlan};
use crate::describe::{ConvError, Lattice, Layout, Shape4, Size2, TensorMut, TensorOut, TensorRef};
use crate::plan::ConvPlan;
use crate::run::copies::{copy, gather, scatter};
use crate::run::{ConvIo, Threads};
use crate::tile::output::OutputRegion;

impl PhasedPlan {
    /// Computes the large tensor. The caller has checked all tensors.
    pub(crate) fn run(
        &self,
        small: TensorRef<'_>,
        added: Added<'_>,
        large: TensorOut<'_>,
        scratch: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.workspace_req().check(scratch)?;
        let threads = if self.req.threads == 1 { Threads::Seq } else { threads };
        let Room { small: own_small, residual, large: own_large, zeros, mut parts } =
            self.rooms.split(scratch);
        let small = self.converted(small, self.layouts.0, own_small, threads)?;
        let added = match added {
            Added::Residual(tensor) => {
                Added::Residual(self.converted(tensor, self.layouts.1, residual, threads)?)
            }
            others => others,
        };
        if self.layouts.1 == self.inner {
            return self.compute(small, added, large, &mut parts, zeros, threads);
        }
        let inner = TensorMut::packed(own_large, self.large, self.inner)?;
        self.compute(small, added, inner.into(), &mut parts, zeros, threads)?;
        let inner = TensorRef::packed(own_large, self.large, self.inner)?;
        copy(self.copies, inner, large, threads);
        Ok(())
    }

    /// `tensor` in the layout of the phases.
    fn converted<'t>(
        &self,
        tensor: TensorRef<'t>,
        layout: Layout,
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<TensorRef<'t>, ConvError> {
        if layout == self.inner {
            return Ok(tensor);
        }
        copy(self.copies, tensor, TensorMut::packed(room, tensor.shape(), self.inner)?.into(), threads);
        TensorRef::packed(room, tensor.shape(), self.inner)
    }

    /// Computes the large tensor in the layout of the phases.
    fn compute(
        &self,
        small: TensorRef<'_>,
        added: Added<'_>,
        mut large: TensorOut<'_>,
        parts: &mut Parts<'_>,
        zeros: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        zeros.fill(0.0);
        for first in (0..self.large.n).step_by(self.images) {
            let images = first..first + self.images;
            let small = small.images(images.clone());
            let added = match added {
                Added::Residual(tensor) => Added::Residual(tensor.images(images.clone())),
                others => others,
            };
            let mut large = large.images(images);
            if let Some(fill) = &self.fill {
                self.compute_without_taps(
                    fill,
                    added,
                    large.images(0..self.images),
                    (zeros, parts.slabs),
                    threads,
                )?;
            }
            for of in &self.phases {
                self.compute_phase(of, (small, added), large.images(0..self.images), parts, threads)?;
            }
        }
        Ok(())
    }

    /// Computes all outputs as if they had no taps. If others are added to what they hold, they keep it.
    fn compute_without_taps(
        &self,
        fill: &ConvPlan,
        added: Added<'_>,
        output: TensorOut<'_>,
        (zeros, slabs): (&[f32], &mut [f32]),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let residual = match added {
            Added::Large => {
                OutputRegion::new(output, false).zero_padding_lanes();
                return Ok(());
            }
            Added::Residual(tensor) => Some(tensor),
            Added::Nothing => None,
        };
        let input = TensorRef::packed(zeros, fill.desc().input(), fill.desc().layout())?;
        fill.run(ConvIo { input, output, residual }, slabs, threads)
    }

    fn compute_phase(
        &self,
        PhasePlan { plan, phase, in_place }: &PhasePlan,
        (small, added): (TensorRef<'_>, Added<'_>),
        mut large: TensorOut<'_>,
        parts: &mut Parts<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let Parts { read, addend, part, slabs } = parts;
        let (first, size) = phase.read;
        let input = if self.reads_part(phase) {
            let lattice = Lattice { first, step: Size2::square(1), size };
            self.gathered(small, lattice, read, threads)?
        } else {
            small
        };
        let lattice = Lattice { first: phase.first, step: self.stride, size: phase.size };
        if *in_place {
            let whole = phase.size == self.large.size();
            let output = if whole { Some(large) } else { large.lattice(&lattice) };
            let output = output.expect("the plan has checked that a view can express it");
            let residual = match added.tensor() {
                Some(tensor) if !whole => tensor.lattice(&lattice),
                tensor => tensor,
            };
            return match added {
                Added::Large => plan.add_to(input, output, slabs, threads),
                _ => plan.run(ConvIo { input, output, residual }, slabs, threads),
            };
        }
        let residual = match added.tensor() {
            Some(residual) => Some(self.gathered(residual, lattice, addend, threads)?),
            None => None,
        };
        let shape = plan.desc().output();
        let part = &mut part[..shape.len(self.inner)?];
        let output = TensorMut::packed(part, shape, self.inner)?;
        plan.run(ConvIo { input, output: output.into(), residual }, slabs, threads)?;
        scatter(self.copies, TensorRef::packed(part, shape, self.inner)?, lattice, large, threads);
        Ok(())
    }

    /// The pixels of `lattice` in `map`, as a tensor in `room`.
    fn gathered<'t>(
        &self,
        map: TensorRef<'_>,
        lattice: Lattice,
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<TensorRef<'t>, ConvError> {
        let shape = Shape4 { h: lattice.size.h, w: lattice.size.w, ..map.shape() };
        let room = &mut room[..shape.len(self.inner)?];
        gather(self.copies, map, lattice, TensorMut::packed(room, shape, self.inner)?.into(), threads);
        TensorRef::packed(room, shape, self.inner)
    }
}

impl<'a> Added<'a> {
    fn tensor(self) -> Option<TensorRef<'a>> {
        match self {
            Self::Residual(tensor) => Some(tensor),
            Self::Nothing | Self::Large => None,
        }
    }
}
