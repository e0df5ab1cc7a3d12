//! One file or folder per algorithm. The packer (step 3) and the driver (step 4) of an algorithm share a data
//! layout, so they are in one place.
//!
//! A driver is sequential. It computes one [`OutputRegion`], a box of the output that it alone writes, with
//! one slab of the workspace. `run/threads.rs` splits the output into boxes and calls the driver on each.

pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod few;
pub(crate) mod fft;
mod form;
pub(crate) mod gemm;
pub(crate) mod gemm_schedule;
pub(crate) mod grid;
mod held;
pub(crate) mod im2col;
mod operands;
pub(crate) mod packed;
pub(crate) mod panels;
pub(crate) mod parts;
pub(crate) mod pixels;
pub(crate) mod planes;
pub(crate) mod pointwise;
pub(crate) mod reference;
pub(crate) mod rows;
mod tap_order;
pub(crate) mod weights_gradient;
pub(crate) mod winograd;

use crate::describe::{
    Algorithm, AlgorithmKind, BLOCK, ConvDesc, ConvError, Layout, Method, PixelView, Products, Unsupported,
};
use crate::simd::LINE;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use crate::work::prices::Typical;
use crate::work::{PlanEstimate, ThreadShare};
use depthwise::DepthwiseForm;
use direct::DirectSchedule;
use few::FewForm;
use fft::{FftSchedule, SpectraForm};
pub(crate) use form::{Form, FormKind, Packed};
use gemm_schedule::GemmSchedule;
pub(crate) use operands::{Operands, Residual};
use parts::PartsSchedule;
use reference::PlainForm;
use rows::RowsSchedule;
use winograd::WinogradSchedule;

impl Algorithm {
    /// Whether this algorithm can compute `desc` with `f32` products.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn supports(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        self.supports_reduced(&desc.reduced().desc)
    }

    /// [`supports`](Self::supports) for a problem that is reduced already.
    fn supports_reduced(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        if parts::has_bf16_tensor(desc) {
            return Err(Unsupported::Bf16Layout);
        }
        match self.kind() {
            AlgorithmKind::Reference | AlgorithmKind::Im2colGemm => Ok(()),
            AlgorithmKind::Pointwise => pointwise::supports(desc),
            AlgorithmKind::Direct if direct::reads_in_place(desc) => direct::supports(desc),
            AlgorithmKind::Direct => rows::supports(desc),
            AlgorithmKind::Depthwise => depthwise::supports(desc),
            AlgorithmKind::Winograd(outputs) => winograd::supports(desc, outputs),
            AlgorithmKind::Fft => fft::supports(desc),
        }
    }
}

impl Method {
    /// Whether this method can compute `desc`.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn supports(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        self.supports_reduced(&desc.reduced().desc)
    }

    /// [`supports`](Self::supports) for a problem that is reduced already.
    pub(crate) fn supports_reduced(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        if !self.exists() {
            return Err(Unsupported::OnlyF32);
        }
        if parts::has_bf16_tensor(desc) {
            return parts::supports_bf16_tensor(self, desc);
        }
        self.algorithm.supports_reduced(desc)?;
        match (self.products, self.algorithm.kind()) {
            (Products::F32, _) | (_, AlgorithmKind::Winograd(_)) => Ok(()),
            _ => parts::supports(self.algorithm, desc),
        }
    }
}

/// Everything that an algorithm decides before it sees weights, with one variant per driver.
pub(crate) enum Schedule {
    Reference,
    Gemm(GemmSchedule),
    Direct(DirectSchedule),
    Rows(RowsSchedule),
    Few,
    Depthwise,
    Winograd(WinogradSchedule),
    Fft(FftSchedule),
    Parts(PartsSchedule),
}

impl Schedule {
    /// Makes the schedule of `method`, which must support `desc`. It splits the problem into the parts
    /// that are fastest on a `typical` machine.
    pub(crate) fn new(
        method: Method,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        typical: &Typical,
    ) -> Self {
        let Method { algorithm, products } = method;
        match algorithm.kind() {
            AlgorithmKind::Winograd(outputs) => {
                let outputs_and_products = (outputs, products);
                Self::Winograd(WinogradSchedule::new(desc, outputs_and_products, kernels, &typical.caches))
            }
            _ if products != Products::F32 => {
                Self::Parts(PartsSchedule::new(algorithm, products, desc, kernels, &typical.caches))
            }
            AlgorithmKind::Reference => Self::Reference,
            AlgorithmKind::Im2colGemm => Self::Gemm(im2col::schedule(desc, kernels)),
            AlgorithmKind::Pointwise => Self::Gemm(pointwise::schedule(desc, kernels)),
            AlgorithmKind::Direct if few::fits(desc, kernels.few.lanes()) => Self::Few,
            AlgorithmKind::Direct if direct::reads_in_place(desc) => {
                Self::Direct(DirectSchedule::new(desc, kernels))
            }
            AlgorithmKind::Direct => Self::Rows(RowsSchedule::new(desc, &kernels.rows)),
            AlgorithmKind::Depthwise => Self::Depthwise,
            AlgorithmKind::Fft => Self::Fft(fft::schedule(desc, kernels.fft(), typical)),
        }
    }

    /// The form in which the driver reads the weights.
    pub(crate) fn form(&self, desc: &ConvDesc, kernels: &'static KernelSet) -> FormKind {
        match self {
            Self::Reference => FormKind::Plain(PlainForm::new(desc)),
            Self::Gemm(schedule) => FormKind::Gemm(schedule.form),
            Self::Direct(schedule) => FormKind::Gemm(schedule.form),
            Self::Rows(schedule) => FormKind::Gemm(schedule.form),
            Self::Few => FormKind::Few(FewForm::new(desc)),
            Self::Depthwise => FormKind::Depthwise(DepthwiseForm::new(desc, kernels.depthwise().lanes())),
            Self::Winograd(schedule) => FormKind::Winograd(schedule.form),
            Self::Fft(schedule) => FormKind::Spectra(SpectraForm::new(desc, schedule)),
            Self::Parts(schedule) => FormKind::Parts(schedule.form),
        }
    }

    /// Returns the forms that `method` can use. It must support `desc`. Only Fourier transforms have more
    /// than one form, one for each choice of transform lengths.
    pub(crate) fn forms(
        method: Method,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        typical: &Typical,
    ) -> Vec<FormKind> {
        match method.algorithm.kind() {
            AlgorithmKind::Fft => SpectraForm::all(desc).into_iter().map(FormKind::Spectra).collect(),
            _ => vec![Self::new(method, desc, kernels, typical).form(desc, kernels)],
        }
    }

    /// Returns the fastest schedule of `method` whose form is one of `forms`. The method must support
    /// `desc`.
    pub(crate) fn among(
        method: Method,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        typical: &Typical,
        forms: &[FormKind],
    ) -> Option<Self> {
        if method.algorithm.kind() == AlgorithmKind::Fft {
            let forms = forms.iter().filter_map(|form| match form {
                FormKind::Spectra(form) => Some(form),
                _ => None,
            });
            return fft::schedule_of(desc, kernels.fft(), typical, forms).map(Self::Fft);
        }
        let schedule = Self::new(method, desc, kernels, typical);
        forms.contains(&schedule.form(desc, kernels)).then_some(schedule)
    }

    /// Estimates the memory and the work of the driver, for the choice.
    pub(crate) fn estimate(
        &self,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        share: &ThreadShare,
    ) -> PlanEstimate {
        let mut estimate = match self {
            Self::Reference => reference::estimate(desc, share),
            Self::Gemm(schedule) => schedule.estimate(desc, share),
            Self::Direct(schedule) => direct::estimate(desc, schedule, kernels, share),
            Self::Rows(schedule) => rows::estimate(desc, schedule, &kernels.rows, share),
            Self::Few => few::estimate(desc, &kernels.few, share),
            Self::Depthwise => depthwise::estimate(desc, kernels, share),
            Self::Winograd(schedule) => winograd::estimate(desc, schedule, kernels, share),
            Self::Fft(schedule) => fft::estimate(desc, schedule, kernels, share),
            Self::Parts(schedule) => parts::estimate(desc, schedule, share),
        };
        estimate.workspace_len = whole_lines(estimate.workspace_len);
        estimate
    }

    /// The granularity at which the output is split among threads, and whether all images can form one row of
    /// pixels.
    #[cfg(feature = "internal")]
    pub(crate) fn split_units(&self, desc: &ConvDesc, kernels: &'static KernelSet) -> (SplitUnits, bool) {
        match self {
            Self::Reference => (SplitUnits::new(1, 1), false),
            Self::Gemm(schedule) => (schedule.split_units(desc), schedule.mergeable),
            Self::Direct(schedule) => (schedule.split_units(desc), false),
            Self::Rows(schedule) => (schedule.split_units(desc), false),
            Self::Few => (few::split_units(desc), false),
            Self::Depthwise => (depthwise::split_units_of(desc, kernels), false),
            Self::Winograd(schedule) => (schedule.split_units(), false),
            Self::Fft(schedule) => (schedule.split_units(desc), false),
            Self::Parts(schedule) => (schedule.split_units(), schedule.mergeable),
        }
    }

    /// Makes the driver, with weights `packed` in its [`form`](Self::form).
    ///
    /// # Panics
    /// If the weights are packed in another form, which would be a bug of this library.
    pub(crate) fn driver(
        self,
        desc: &ConvDesc,
        kernels: &'static KernelSet,
        packed: Packed,
    ) -> Result<Driver, ConvError> {
        Ok(match (self, packed) {
            (Self::Reference, Packed::Plain(weights)) => {
                Driver::Reference(reference::Reference::new(desc, weights))
            }
            (Self::Gemm(schedule), Packed::Gemm(weights)) => {
                Driver::Gemm(gemm::GemmConv::new(desc, schedule, weights))
            }
            (Self::Direct(schedule), Packed::Gemm(weights)) => {
                Driver::Direct(Box::new(direct::DirectConv::new(desc, schedule, weights, kernels)?))
            }
            (Self::Rows(schedule), Packed::Gemm(weights)) => {
                Driver::Rows(Box::new(rows::RowsConv::new(*desc, schedule, weights, kernels)?))
            }
            (Self::Few, Packed::Few(weights)) => Driver::Few(few::FewConv::new(desc, weights, &kernels.few)),
            (Self::Depthwise, Packed::Depthwise(weights)) => {
                Driver::Depthwise(depthwise::Depthwise::new(desc, weights, kernels))
            }
            (Self::Winograd(schedule), Packed::Winograd(weights)) => {
                Driver::Winograd(Box::new(winograd::WinogradConv::new(desc, schedule, weights, kernels)?))
            }
            (Self::Fft(schedule), Packed::Spectra(spectra)) => {
                Driver::Fft(Box::new(fft::FftConv::new(desc, schedule, spectra, kernels)))
            }
            (Self::Parts(schedule), Packed::Parts(weights)) => {
                Driver::Parts(Box::new(parts::PartsConv::new(desc, schedule, weights, kernels)?))
            }
            _ => unreachable!("weights are packed in the form of the schedule"),
        })
    }
}

/// A prepared algorithm with its packed weights, with one variant per driver.
pub(crate) enum Driver {
    Reference(reference::Reference),
    Gemm(gemm::GemmConv),
    Direct(Box<direct::DirectConv>),
    Rows(Box<rows::RowsConv>),
    Few(few::FewConv),
    Depthwise(depthwise::Depthwise),
    Winograd(Box<winograd::WinogradConv>),
    Fft(Box<fft::FftConv>),
    Parts(Box<parts::PartsConv>),
}

/// Rounds a slab up to whole cache lines, so that each slab begins at one.
fn whole_lines(len: usize) -> usize {
    len.checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

impl Driver {
    /// Whether all images can be treated as one long row of pixels, given the views of the actual tensors.
    pub(crate) fn merges(&self, views: &[PixelView]) -> bool {
        match self {
            Self::Reference(_)
            | Self::Direct(_)
            | Self::Rows(_)
            | Self::Few(_)
            | Self::Depthwise(_)
            | Self::Winograd(_)
            | Self::Fft(_) => false,
            Self::Gemm(gemm) => gemm.merges(views),
            Self::Parts(parts) => parts.merges(views),
        }
    }

    /// Whether the driver can write rows of pixels that are further apart than the pixels, as those of a
    /// [lattice](PixelView::lattice).
    pub(crate) fn writes_lines(&self) -> bool {
        match self {
            Self::Reference(_)
            | Self::Gemm(_)
            | Self::Direct(_)
            | Self::Few(_)
            | Self::Depthwise(_)
            | Self::Fft(_) => true,
            Self::Winograd(winograd) => winograd.writes_lines(),
            Self::Rows(rows) => rows.writes_lines(),
            Self::Parts(_) => false,
        }
    }

    /// Whether the driver can add to what a tensor of channels-last pixels holds.
    pub(crate) fn adds_in_place(&self) -> bool {
        // The last tile of a depthwise row can overlap the one before it, and would add to its outputs again.
        !matches!(self, Self::Reference(_) | Self::Depthwise(_) | Self::Parts(_))
    }

    /// The layout that a residual can have besides that of the output.
    pub(crate) fn other_residuals(&self) -> Option<Layout> {
        match self {
            Self::Parts(parts) => parts.other_residuals(),
            _ => None,
        }
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        match self {
            Self::Reference(_) => SplitUnits::new(1, 1),
            Self::Gemm(gemm) => gemm.split_units(),
            Self::Direct(direct) => direct.split_units(),
            Self::Rows(rows) => rows.split_units(),
            Self::Few(few) => few.split_units(),
            Self::Depthwise(depthwise) => depthwise.split_units(),
            Self::Winograd(winograd) => winograd.split_units(),
            Self::Fft(fft) => fft.split_units(),
            Self::Parts(parts) => parts.split_units(),
        }
    }

    /// Computes one box of the output. The box with the last channel also covers the padding lanes of
    /// Nchw16c.
    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let columns = match self {
            Self::Reference(reference) => {
                reference.run(operands, region);
                1
            }
            Self::Gemm(gemm) => {
                gemm.run(operands, region, slab);
                gemm.schedule.tile.columns()
            }
            Self::Direct(direct) => {
                direct.run(operands, region);
                direct.tile().columns()
            }
            Self::Rows(rows) => {
                rows.run(operands, region, slab);
                rows.tile().columns()
            }
            Self::Few(few) => {
                few.run(operands, region, slab);
                few.kernels().lanes()
            }
            Self::Depthwise(depthwise) => {
                depthwise.run(operands, region, slab);
                depthwise.kernels().lanes()
            }
            Self::Winograd(winograd) => {
                winograd.run(operands, region, slab);
                winograd.columns()
            }
            Self::Fft(fft) => {
                fft.run(operands, region, slab);
                BLOCK
            }
            Self::Parts(parts) => {
                parts.run(operands, region, slab);
                BLOCK
            }
        };
        // Tiles write zeros up to the end of the last channel's block, unless they are narrower than a block.
        if columns < BLOCK {
            region.zero_padding_lanes();
        }
    }

    /// Elements of workspace per thread, a whole number of cache lines.
    pub(crate) fn workspace_len(&self) -> usize {
        match self {
            Self::Reference(_) | Self::Direct(_) => 0,
            Self::Rows(rows) => whole_lines(rows.workspace_len()),
            Self::Few(few) => whole_lines(few.workspace_len()),
            Self::Depthwise(depthwise) => whole_lines(depthwise.workspace_len()),
            Self::Gemm(gemm) => whole_lines(gemm.workspace_len()),
            Self::Winograd(winograd) => whole_lines(winograd.workspace_len()),
            Self::Fft(fft) => whole_lines(fft.workspace_len()),
            Self::Parts(parts) => whole_lines(parts.workspace_len()),
        }
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        match self {
            Self::Reference(_) => "reference_f64",
            Self::Gemm(gemm) => gemm.schedule.tile.name(),
            Self::Direct(direct) => direct.tile().name(),
            Self::Rows(rows) => rows.tile().name(),
            Self::Few(few) => few.kernels().name(),
            Self::Depthwise(depthwise) => depthwise.kernels().name(),
            Self::Winograd(winograd) => winograd.kernel_name(),
            Self::Fft(fft) => fft.kernel_name(),
            Self::Parts(parts) => parts.kernel_name(),
        }
    }
}
