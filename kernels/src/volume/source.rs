//! [`Source`]: how the slices of the tensor that is read become the channels of images.
//!
//! Image `i` of a run has the slices of all taps of output slice `i` as channels, tap by tap. If slices follow each other in
//! memory, and the planes of a slice do, too, these channels are at equal distances: the image is read in place, and overlaps
//! the next one. Otherwise the slices are first copied to such an order (*staged*), once for all runs.
//!
//! ```text
//! [n][d][c][h][w]:  image 0 = slices 0 1 2        dilation 2:  slices 0 2 4 .. 1 3 5 ..
//!                   image 1 =   slices 1 2 3                   image 0 = slices 0 2 4
//! ```
//!
//! With groups, the channels of a group must follow each other: `[group][tap][channel of the group]`. No order of the slices
//! has that, so the images of a few output slices at a time are copied (*gathered*).

use crate::describe::{
    ConvError, DepthRun, Layout, Sequence, Shape4, Shape5, Slices, Taps, TensorMut, TensorRef, VolumeLayout,
    VolumeMut, VolumeRef, VolumeView, runs_of,
};
use crate::memory::{try_push, try_vec};
use crate::run::Threads;
use crate::run::copies::copy;
use crate::tile::copy_table::CopyTable;

/// Bytes of gathered images for each thread: some of the last-level cache.
const GATHERED: usize = 1 << 20;

/// Where the images of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The tensor of the caller.
    InPlace,
    /// Slices that were copied to the order of the classes of the depth.
    Staged,
    /// Images that are copied for each run, from the tensor of the caller or from staged slices.
    Gathered { staged: bool },
}

/// The tensor that is read, and how its slices become images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    shape: Shape5,
    /// Layout of the images.
    layout: Layout,
    mode: Mode,
    /// Distance between the slices of taps.
    apart: usize,
    groups: usize,
    /// Whether images of several volumes can be computed together.
    together: bool,
}

/// A run, with the images that are computed together.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The sequence that it is a part of.
    pub(super) sequence: usize,
    pub(super) depth: DepthRun,
}

/// What a source is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) shape: Shape5,
    pub(super) layout: VolumeLayout,
    pub(super) groups: usize,
    pub(super) sequences: &'a [Sequence],
    /// Whether an output slice has one pixel.
    pub(super) one_pixel: bool,
    /// Whether images of several volumes must not be computed together.
    pub(super) volumes_apart: bool,
    pub(super) threads: usize,
}

impl Source {
    /// The source of images in `layout`.
    pub(super) fn new(given: &Given<'_>, layout: Layout) -> Self {
        let &Given { shape, groups, sequences, one_pixel, .. } = given;
        let several = sequences.iter().filter(|sequence| sequence.taps > 1);
        let apart = several.map(|sequence| sequence.apart).max();
        let taps = apart.map_or(Taps::ONE, |apart| Taps { count: 2, apart });
        let view = VolumeView::packed(shape, given.layout);
        let fits = view.layout == layout;
        let mode = match groups {
            // Plans can see outputs of one pixel as the pixels of one row. Images must be packed then.
            1 if fits && view.has_maps(taps) && !one_pixel => Mode::InPlace,
            1 => Mode::Staged,
            _ => Mode::Gathered { staged: !fits },
        };
        Self {
            shape,
            layout,
            mode,
            apart: taps.apart,
            groups,
            together: groups == 1 && !one_pixel && !given.volumes_apart,
        }
    }

    pub(super) fn is_gathered(&self) -> bool {
        matches!(self.mode, Mode::Gathered { .. })
    }

    /// Channels of an image of `taps` slices.
    pub(super) fn channels(&self, taps: usize) -> usize {
        self.channels_of_group(taps) * self.groups
    }

    /// Channels of one group of an image of `taps` slices.
    pub(super) fn channels_of_group(&self, taps: usize) -> usize {
        VolumeView::channels_of(self.layout, self.shape.c / self.groups, taps)
    }

    /// The first volumes of the groups of volumes that are computed together, and the number of volumes of each.
    pub(super) fn volumes(&self) -> (impl Iterator<Item = usize> + use<>, usize) {
        let count = if self.together { self.shape.n } else { 1 };
        ((0..self.shape.n).step_by(count), count)
    }

    /// Images of a run that are computed together.
    pub(super) fn images(&self, run: &DepthRun) -> usize {
        self.volumes().1 * run.outputs.count
    }

    /// All runs.
    pub(super) fn runs(&self, given: &Given<'_>) -> Result<Vec<Run>, ConvError> {
        let classes = self.mode == Mode::Staged;
        let mut runs = try_vec("runs of slices", 0)?;
        for (number, sequence) in given.sequences.iter().enumerate() {
            // The distance between the slices of one tap does not matter.
            let apart = if sequence.taps == 1 { self.apart } else { sequence.apart };
            for depth in runs_of(Sequence { apart, ..*sequence }, self.shape.d, classes) {
                for depth in self.pieces(depth, given.threads) {
                    try_push("runs of slices", &mut runs, Run { sequence: number, depth })?;
                }
            }
        }
        Ok(runs)
    }

    /// Cuts a run into images that are gathered together.
    fn pieces(&self, run: DepthRun, threads: usize) -> impl Iterator<Item = DepthRun> + use<> {
        let count = run.outputs.count;
        let image = self.channels(run.taps.len()).saturating_mul(self.shape.h * self.shape.w);
        let most = if self.is_gathered() {
            (GATHERED.saturating_mul(threads) / size_of::<f32>() / image).clamp(1, count)
        } else {
            count
        };
        (0..count).step_by(most).map(move |first| DepthRun {
            outputs: Slices {
                first: run.outputs.first + first * run.outputs.step,
                count: most.min(count - first),
                ..run.outputs
            },
            first: run.first + first * run.advance,
            ..run.clone()
        })
    }

    /// The shapes of all tensors that are copied for `runs`.
    pub(super) fn copies(&self, runs: &[Run]) -> impl Iterator<Item = Shape5> {
        let is_staged = matches!(self.mode, Mode::Staged | Mode::Gathered { staged: true });
        let staged = is_staged.then_some(self.shape);
        let gathered = runs.iter().filter(|_| self.is_gathered()).map(|run| Shape5 {
            c: self.channels(run.depth.taps.len()),
            d: run.depth.outputs.count,
            ..self.shape
        });
        staged.into_iter().chain(gathered)
    }

    /// Elements of the staged slices, and of the gathered images of the largest of `runs`.
    pub(super) fn rooms(&self, runs: &[Run]) -> Result<(usize, usize), ConvError> {
        let staged = match self.mode {
            Mode::Staged | Mode::Gathered { staged: true } => {
                self.shape.len(VolumeLayout::of_maps(self.layout))?
            }
            Mode::InPlace | Mode::Gathered { staged: false } => 0,
        };
        let mut gathered = 0;
        if self.is_gathered() {
            for Run { depth, .. } in runs {
                gathered = gathered.max(self.image_shape(depth).len(self.layout)?);
            }
        }
        Ok((staged, gathered))
    }

    /// The shape of the images of a run.
    pub(super) fn image_shape(&self, run: &DepthRun) -> Shape4 {
        let Shape5 { h, w, .. } = self.shape;
        Shape4::new(self.images(run), self.channels(run.taps.len()), h, w)
    }

    /// The slices that all runs read: `input`, or its staged slices in `room`.
    pub(super) fn prepared<'t>(
        &self,
        copies: &CopyTable,
        input: VolumeRef<'t>,
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<VolumeRef<'t>, ConvError> {
        let classes = match self.mode {
            Mode::InPlace | Mode::Gathered { staged: false } => return Ok(input),
            Mode::Staged => self.apart,
            Mode::Gathered { staged: true } => 1,
        };
        let layout = VolumeLayout::of_maps(self.layout);
        let mut staged = VolumeMut::packed(&mut *room, self.shape, layout)?;
        for class in 0..classes.min(self.shape.d) {
            let from =
                Slices { first: class, step: classes, count: (self.shape.d - class).div_ceil(classes) };
            let to = Slices { first: place(class, classes, self.shape.d), step: 1, count: from.count };
            copy_slices(copies, (input, from), (&mut staged, to), threads)?;
        }
        VolumeRef::packed(room, self.shape, layout)
    }

    /// The images of a run of `tensor`, which is prepared, for the volumes from `volume` on.
    pub(super) fn images_of<'t>(
        &self,
        copies: &CopyTable,
        tensor: VolumeRef<'t>,
        (volume, run): (usize, &DepthRun),
        room: &'t mut [f32],
        threads: Threads<'_>,
    ) -> Result<TensorRef<'t>, ConvError> {
        let (count, volumes) = (run.outputs.count, (volume, self.volumes().1));
        let taps = Taps { count: run.taps.len(), apart: run.apart };
        match self.mode {
            Mode::InPlace => {
                tensor.maps(volumes, Slices { first: run.first, step: run.advance, count }, taps)
            }
            Mode::Staged => {
                let first = place(run.first, self.apart, self.shape.d);
                let slices = Slices { first, step: run.advance / self.apart, count };
                tensor.maps(volumes, slices, Taps { apart: 1, ..taps })
            }
            Mode::Gathered { .. } => {
                let shape = self.image_shape(run);
                let room = &mut room[..shape.len(self.layout)?];
                self.gather(copies, tensor, (volume, run), room, threads)?;
                TensorRef::packed(room, shape, self.layout)
            }
        }
    }

    /// Copies the channels of a run: for each tap, the same channel of all groups, or all channels of one group.
    fn gather(
        &self,
        copies: &CopyTable,
        tensor: VolumeRef<'_>,
        (volume, run): (usize, &DepthRun),
        room: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (taps, of_group) = (run.taps.len(), self.shape.c / self.groups);
        // Images as volumes whose channels are gathered.
        let images = Shape5 { n: 1, c: self.shape.c * taps, d: run.outputs.count, ..self.shape };
        let mut images = VolumeMut::packed(room, images, VolumeLayout::of_maps(self.layout))?;
        let all = Slices { first: 0, step: 1, count: run.outputs.count };
        for tap in 0..taps {
            let first = run.first + tap * run.apart;
            let slices = Slices { first, step: run.advance, count: run.outputs.count };
            if self.groups >= of_group {
                for c in 0..of_group {
                    let from = tensor.planes_apart(volume, slices, (c, of_group, self.groups))?;
                    let planes = (tap * of_group + c, taps * of_group, self.groups);
                    copy(copies, from, images.planes_apart(0, all, planes)?.into(), threads);
                }
            } else {
                for group in 0..self.groups {
                    let from = tensor.planes_apart(volume, slices, (group * of_group, 1, of_group))?;
                    let planes = ((group * taps + tap) * of_group, 1, of_group);
                    copy(copies, from, images.planes_apart(0, all, planes)?.into(), threads);
                }
            }
        }
        Ok(())
    }
}

/// The place of slice `z` of `depth` if those with the same remainder by `classes` follow each other.
fn place(z: usize, classes: usize, depth: usize) -> usize {
    let before = |class: usize| class * (depth / classes) + class.min(depth % classes);
    before(z % classes) + z / classes
}

/// Copies slices of all volumes between tensors of different layouts.
pub(super) fn copy_slices(
    copies: &CopyTable,
    (from, from_slices): (VolumeRef<'_>, Slices),
    (to, to_slices): (&mut VolumeMut<'_>, Slices),
    threads: Threads<'_>,
) -> Result<(), ConvError> {
    let volumes = (0, from.shape().n);
    let to: TensorMut<'_> = to.maps(volumes, to_slices)?;
    copy(copies, from.maps(volumes, from_slices, Taps::ONE)?, to.into(), threads);
    Ok(())
}

/// Copies all of a tensor to one of another layout.
pub(super) fn convert(
    copies: &CopyTable,
    from: VolumeRef<'_>,
    mut to: VolumeMut<'_>,
    threads: Threads<'_>,
) -> Result<(), ConvError> {
    let all = Slices { first: 0, step: 1, count: from.shape().d };
    copy_slices(copies, (from, all), (&mut to, all), threads)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn slices_of_a_class_follow_each_other() {
        for (depth, classes) in (1..12).flat_map(|depth| (1..15).map(move |classes| (depth, classes))) {
            let mut by_class: Vec<usize> = (0..depth).collect();
            by_class.sort_by_key(|z| (z % classes, *z));
            for (at, &z) in by_class.iter().enumerate() {
                assert_eq!(place(z, classes, depth), at, "slice {z} of {depth} in {classes} classes");
            }
        }
    }
}
