//! [`ck_conv_desc`]: a convolution and the options of its plan.

use crate::enums::{self, NUMERICS, known};
use crate::enums::{ck_activation, ck_algorithm, ck_isa, ck_layout, ck_numerics, ck_products};
use crate::pointer;
use crate::shape::ck_shape;
use crate::status::{Failure, ck_error, ck_status, guard};
use kernels::{
    Activation, ConvDesc, ConvDescBuilder, ConvError, EpilogueSpec, FilterShape, Layout, Method, Pad2,
    PlanOptions, Products, Select, Shape4, Size2,
};

/// A convolution: `output = activation(sum + bias + residual)`. The sum is a cross-correlation, so the kernel is
/// not flipped.
///
/// Call `ck_conv_desc_init` first. It sets stride, dilation and groups to 1, everything optional to none, and all
/// extents to 0, which the functions that read the struct refuse.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_conv_desc {
    /// Bytes of this struct, set by `ck_conv_desc_init`.
    pub struct_size: usize,
    /// Number of images.
    pub batch: usize,
    /// Number of input channels, all groups together.
    pub channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Number of output channels, all groups together.
    pub out_channels: usize,
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Input rows between neighbouring outputs.
    pub stride_h: usize,
    /// Input columns between neighbouring outputs.
    pub stride_w: usize,
    /// Input rows between neighbouring taps of the kernel.
    pub dilation_h: usize,
    /// Input columns between neighbouring taps of the kernel.
    pub dilation_w: usize,
    /// Zero rows above the first row.
    pub pad_top: usize,
    /// Zero rows below the last row.
    pub pad_bottom: usize,
    /// Zero columns before the first column.
    pub pad_left: usize,
    /// Zero columns after the last column.
    pub pad_right: usize,
    /// Number of groups, a divisor of `channels` and `out_channels`. Depthwise convolution has one per channel.
    pub groups: usize,
    /// The layout of the input, a `ck_layout`. The default is `CK_LAYOUT_NCHW`.
    pub layout: u32,
    /// The layout of output and residual, a `ck_layout`. The default is `CK_LAYOUT_AS_INPUT`. The only other
    /// layout than the input's is `CK_LAYOUT_NCHW16C`.
    pub output_layout: u32,
    /// 1 if the weights have a bias, else 0.
    pub has_bias: u32,
    /// 1 if each run adds a residual, a tensor of the output's shape and layout, else 0.
    pub has_residual: u32,
    /// A `ck_activation`. The default is none.
    pub activation: u32,
    /// The parameter of `CK_ACTIVATION_LEAKY_RELU` and `CK_ACTIVATION_ELU`. The default is NaN, which both refuse.
    pub activation_alpha: f32,
    /// The smallest result of `CK_ACTIVATION_CLIP`. The default is NaN, which it refuses.
    pub activation_lo: f32,
    /// The largest result of `CK_ACTIVATION_CLIP`. The default is NaN, which it refuses.
    pub activation_hi: f32,
    /// A `ck_numerics`. The default is `CK_NUMERICS_DEFAULT`.
    pub numerics: u32,
    /// A `ck_algorithm`. The default is `CK_ALGORITHM_AUTO`. An algorithm that cannot do the convolution is
    /// `CK_STATUS_UNSUPPORTED`.
    pub algorithm: u32,
    /// A `ck_isa`. The default is `CK_ISA_AUTO`.
    pub isa: u32,
    /// The most threads of a run. The workspace is sized for them. The default is 1.
    pub max_threads: usize,
    /// Multiply-accumulates that justify one more thread.
    pub macs_per_thread: u64,
    /// The most bytes of workspace, all threads together. The default is `SIZE_MAX`: no limit.
    pub max_workspace_bytes: usize,
    /// The most bytes of packed weights. The default is `SIZE_MAX`: no limit.
    pub max_packed_bytes: usize,
    // Not among the other numbers of four bytes: there it would fill a gap, and the size of the struct would not tell
    // this version from the one without it.
    /// A `ck_products`. The default is `CK_PRODUCTS_AUTO`. Any other value forbids all other products. The choice
    /// takes only products that `numerics` permits and the instruction set is made for; a forced algorithm computes
    /// with any that it has, on any machine. If nothing is left, the result is `CK_STATUS_UNSUPPORTED`.
    pub products: u32,
    /// Bytes that other work reads and writes between two runs: in a network, the weights and activations of all other
    /// layers. Where they displace the weights from the caches, the choice prefers forms with fewer bytes. The default
    /// is 0: the same layer runs again and again.
    pub bytes_between_runs: usize,
}

/// Sets all fields to their defaults. `struct_size` must be `sizeof(ck_conv_desc)`: it protects callers that were
/// compiled with the header of another version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_desc_init(
    desc: *mut ck_conv_desc,
    struct_size: usize,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers. Nothing is written
        // unless the struct has this size.
        unsafe {
            pointer::write("desc", desc, || {
                check_size("struct_size", struct_size)?;
                Ok(ck_conv_desc::new())
            })
        }
    })
}

/// Checks `desc` and writes the shape of its output to `shape`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_desc_output_shape(
    desc: *const ck_conv_desc,
    shape: *mut ck_shape,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::write("shape", shape, || Ok(ck_conv_desc::read(desc)?.checked()?.output().into())) }
    })
}

fn check_size(field: &str, got: usize) -> Result<(), Failure> {
    let expected = size_of::<ck_conv_desc>();
    if got == expected {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{field}: expected sizeof(ck_conv_desc), {expected} in this version of the library, got {got}"
    )))
}

pub(crate) fn flag(field: &str, number: u32) -> Result<bool, Failure> {
    known(field, "flag", &[(0, false), (1, true)], number)
}

impl ck_conv_desc {
    /// The defaults.
    fn new() -> Self {
        let options = PlanOptions::default();
        Self {
            struct_size: size_of::<Self>(),
            batch: 0,
            channels: 0,
            height: 0,
            width: 0,
            out_channels: 0,
            kernel_h: 0,
            kernel_w: 0,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_bottom: 0,
            pad_left: 0,
            pad_right: 0,
            groups: 1,
            layout: ck_layout::Nchw as u32,
            output_layout: ck_layout::AsInput as u32,
            has_bias: 0,
            has_residual: 0,
            activation: ck_activation::None as u32,
            activation_alpha: f32::NAN,
            activation_lo: f32::NAN,
            activation_hi: f32::NAN,
            numerics: ck_numerics::Default as u32,
            algorithm: ck_algorithm::Auto as u32,
            isa: ck_isa::Auto as u32,
            max_threads: options.max_threads,
            macs_per_thread: options.macs_per_thread,
            max_workspace_bytes: usize::MAX,
            max_packed_bytes: usize::MAX,
            products: ck_products::Auto as u32,
            bytes_between_runs: options.bytes_between_runs,
        }
    }

    /// Reads a descriptor of the caller.
    ///
    /// # Safety
    /// `desc` must be null or point to a struct of as many bytes as its first field says.
    pub(crate) unsafe fn read(desc: *const Self) -> Result<Self, Failure> {
        pointer::check("desc", desc)?;
        // SAFETY: not null and aligned, as checked. Every version of the struct begins with its size, and the
        // rest is read only if the size is the size of this version.
        unsafe {
            check_size("desc.struct_size", (&raw const (*desc).struct_size).read())?;
            Ok(desc.read())
        }
    }

    /// The extents of the filter. They do not depend on the image.
    pub(crate) fn filter_shape(&self) -> Result<FilterShape, Failure> {
        let Self { channels, groups, .. } = *self;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let expected = format!("a divisor of the {channels} input channels");
            let got = groups.to_string();
            return Err(ConvError::InvalidField { field: "groups", expected, got }.into());
        }
        let kernel = Size2::new(self.kernel_h, self.kernel_w);
        Ok(FilterShape::new(self.out_channels, channels / groups, kernel).groups(groups))
    }

    pub(crate) fn input(&self) -> Shape4 {
        Shape4::new(self.batch, self.channels, self.height, self.width)
    }

    pub(crate) fn stride(&self) -> Size2 {
        Size2::new(self.stride_h, self.stride_w)
    }

    pub(crate) fn dilation(&self) -> Size2 {
        Size2::new(self.dilation_h, self.dilation_w)
    }

    pub(crate) fn pad(&self) -> Pad2 {
        Pad2 { top: self.pad_top, bottom: self.pad_bottom, left: self.pad_left, right: self.pad_right }
    }

    /// The description, whose extents are not checked yet.
    pub(crate) fn builder(&self) -> Result<ConvDescBuilder, Failure> {
        let kernel = Size2::new(self.kernel_h, self.kernel_w);
        let builder = ConvDesc::builder(self.input(), self.out_channels, kernel)
            .stride(self.stride())
            .pad(self.pad())
            .dilation(self.dilation())
            .groups(self.groups)
            .epilogue(self.epilogue()?);
        let (layout, output_layout) = self.layouts()?;
        Ok(builder.layout(layout).output_layout(output_layout))
    }

    /// The layouts of input and output.
    pub(crate) fn layouts(&self) -> Result<(Layout, Layout), Failure> {
        let layout = enums::layout("layout", self.layout)?;
        if self.output_layout == ck_layout::AsInput as u32 {
            return Ok((layout, layout));
        }
        Ok((layout, enums::layout("output_layout", self.output_layout)?))
    }

    pub(crate) fn checked(&self) -> Result<ConvDesc, Failure> {
        Ok(self.builder()?.build()?)
    }

    pub(crate) fn epilogue(&self) -> Result<EpilogueSpec, Failure> {
        Ok(EpilogueSpec {
            bias: flag("has_bias", self.has_bias)?,
            residual: flag("has_residual", self.has_residual)?,
            activation: self.activation()?,
        })
    }

    fn activation(&self) -> Result<Activation, Failure> {
        let (alpha, lo, hi) = (self.activation_alpha, self.activation_lo, self.activation_hi);
        let table = [
            (ck_activation::None, Activation::None),
            (ck_activation::Relu, Activation::Relu),
            (ck_activation::LeakyRelu, Activation::LeakyRelu { alpha }),
            (ck_activation::Clip, Activation::Clip { lo, hi }),
            (ck_activation::Sigmoid, Activation::Sigmoid),
            (ck_activation::Tanh, Activation::Tanh),
            (ck_activation::Elu, Activation::Elu { alpha }),
            (ck_activation::Prelu, Activation::PRelu),
            (ck_activation::HardSwish, Activation::HardSwish),
            (ck_activation::Silu, Activation::Silu),
        ]
        .map(|(number, activation)| (number as u32, activation));
        known("activation", "ck_activation", &table, self.activation)
    }

    pub(crate) fn options(&self) -> Result<PlanOptions, Failure> {
        const AUTO: u32 = ck_algorithm::Auto as u32;
        const MEASURED: u32 = ck_algorithm::Measured as u32;
        let products = enums::products(self.products)?;
        let select = match self.algorithm {
            AUTO => Select::Auto,
            MEASURED => Select::Measured,
            forced => Select::Force(Method::new(enums::algorithm(forced)?, products.unwrap_or_default())),
        };
        // Measuring several threads would start rayon's global pool.
        if select == Select::Measured && self.max_threads != 1 {
            let message = format!(
                "algorithm: expected CK_ALGORITHM_MEASURED for 1 thread only, got max_threads {}",
                self.max_threads
            );
            return Err(Failure { status: ck_status::Unsupported, message });
        }
        let is_forbidden = |other: &Products| products.is_some_and(|only| only != *other);
        let mut options = Products::ALL
            .into_iter()
            .filter(is_forbidden)
            .fold(PlanOptions::default(), PlanOptions::forbid_products)
            .select(select)
            .numerics(known("numerics", "ck_numerics", &NUMERICS, self.numerics)?)
            .max_threads(self.max_threads)
            .macs_per_thread(self.macs_per_thread)
            .bytes_between_runs(self.bytes_between_runs);
        let limit = |bytes: usize| Some(bytes).filter(|&bytes| bytes != usize::MAX);
        options.isa = enums::isa(self.isa)?;
        options.max_workspace_bytes = limit(self.max_workspace_bytes);
        options.max_packed_bytes = limit(self.max_packed_bytes);
        Ok(options)
    }
}
