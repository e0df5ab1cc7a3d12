//! 3-D layers: their list, their data with expected results, and their plans.

mod layer;
mod problem;

pub use layer::VolumeLayer;
pub use problem::VolumeProblem;

use kernels::{Conv3dDesc, Conv3dDescBuilder, Pad3, Shape5, Size3};
use serde::Deserialize;
use std::sync::LazyLock;

/// A row of `benches/lists/volumes.csv`. Kernel, stride, padding and dilation are the same on all three axes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeSpec {
    /// The identifier in results and arguments.
    pub id: String,
    /// Volumes per batch.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Depth of the input: its slices.
    pub d: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Output channels.
    pub o: usize,
    /// Taps of the kernel on each axis.
    pub k: usize,
    /// Stride on each axis.
    pub stride: usize,
    /// Padding on all six sides.
    pub pad: usize,
    /// Dilation on each axis.
    pub dilation: usize,
    /// Groups of channels.
    pub groups: usize,
}

impl VolumeSpec {
    /// Every layer of the list: of 3-D U-nets (Çiçek et al. 2016), of C3D (Tran et al. 2015), and of networks for medical
    /// images.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<VolumeSpec>> = LazyLock::new(|| {
            let rows = csv::Reader::from_reader(include_str!("../../lists/volumes.csv").as_bytes());
            rows.into_deserialize().collect::<Result<_, _>>().expect("the list is checked by a test")
        });
        &ALL
    }

    /// The layer with this id.
    ///
    /// # Panics
    /// If there is none. Ids in code are checked by running it.
    pub fn by_id(id: &str) -> &'static Self {
        let found = Self::all().iter().find(|spec| spec.id == id);
        found.unwrap_or_else(|| panic!("no layer {id} in the list of volumes"))
    }

    /// The layer with `n` volumes. Its id says so, unless it had as many.
    pub(crate) fn at_batch(&self, n: usize) -> Self {
        let id = if n == self.n { self.id.clone() } else { format!("{}.n{n}", self.id) };
        Self { id, n, ..self.clone() }
    }

    /// The convolution in NCDHW.
    pub(crate) fn builder(&self) -> Conv3dDescBuilder {
        Conv3dDesc::builder(Shape5::new(self.n, self.c, self.d, self.h, self.w), self.o, Size3::cube(self.k))
            .stride(Size3::cube(self.stride))
            .pad(Pad3::all(self.pad))
            .dilation(Size3::cube(self.dilation))
            .groups(self.groups)
    }

    /// The extents in the order of the requests to peers.
    pub(crate) fn extents(&self) -> [usize; 11] {
        let Self { n, c, d, h, w, o, k, stride, pad, dilation, groups, .. } = *self;
        [n, c, d, h, w, o, k, stride, pad, dilation, groups]
    }

    /// Multiply-accumulates by the definition.
    pub fn macs(&self) -> u64 {
        let outputs = [self.d, self.h, self.w].map(|len| self.outputs(len)).iter().product::<usize>();
        (self.n * self.o * outputs) as u64 * (self.c / self.groups * self.k.pow(3)) as u64
    }

    /// The outputs on an axis of `len` inputs.
    pub(crate) fn outputs(&self, len: usize) -> usize {
        (len + 2 * self.pad - self.dilation * (self.k - 1) - 1) / self.stride + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_is_valid() {
        let ids: HashSet<&str> = VolumeSpec::all().iter().map(|spec| spec.id.as_str()).collect();
        assert!(ids.len() == VolumeSpec::all().len() && ids.len() > 10);
        for spec in VolumeSpec::all() {
            let desc = spec.builder().build().unwrap();
            let output = desc.output();
            assert_eq!([output.d, output.h, output.w], [spec.d, spec.h, spec.w].map(|len| spec.outputs(len)));
            assert!(spec.macs() > 0);
        }
    }
}
