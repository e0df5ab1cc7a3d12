//! [`Filter`]: weights apart from plans. Each packed form is made once and shared by the plans that use it.

mod bytes;
mod forms;

use crate::algo::{Form, Packed};
use crate::describe::{ConvError, FilterShape, Isa, Method, Weights};
use crate::memory::try_copy;
use crate::run::PreparedConv;
use crate::tile::table::KernelSet;
pub use bytes::PackedError;
use forms::Forms;
use std::borrow::Cow;
use std::fmt;
use std::io::{Read, Write};

/// The weights of a convolution, without a batch or an image size.
///
/// A plan reads weights that are packed for its algorithm, instruction set and tile. A filter packs each form
/// when the first plan asks for it, and shares it with all later plans. A later plan then takes microseconds:
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let numbers = vec![0.1; 16 * 8 * 3 * 3];
/// let filter = Filter::new(FilterShape::new(16, 8, Size2::square(3)), Weights::filter(&numbers))?;
/// for batch in [1, 2, 4] {
///     let desc = ConvDesc::builder(Shape4::new(batch, 8, 32, 32), 16, Size2::square(3)).build()?;
///     let plan = ConvPlan::new(&desc, &filter, &PlanOptions::default())?;
/// #   assert_eq!(filter.packed_forms(), 1);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Packed forms are kept until the filter is dropped, or until they exceed
/// [`max_packed_bytes`](Self::max_packed_bytes). [`write_packed`](Self::write_packed) writes them to bytes,
/// so that a program need not pack large weights at every start.
///
/// A `Filter` is `Send + Sync`. Two threads that plan at the same time wait for each other only if both need
/// a form that one of them is packing.
pub struct Filter<'a> {
    shape: FilterShape,
    /// Elements of the bias and of the slopes; `None` where there are none.
    per_channel: [Option<usize>; 2],
    /// `None` after the original weights were dropped.
    weights: Option<KeptWeights<'a>>,
    /// The checksum of the original weights, if they are not here but the bytes that were read recorded it.
    checksum: Option<u64>,
    forms: Forms,
    /// See [`Filter::reuse_within`].
    reuse_within: f64,
}

/// See [`Filter::reuse_within`].
const REUSE_WITHIN: f64 = 1.25;

/// The original weights, borrowed or owned.
struct KeptWeights<'a> {
    filter: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
    slope: Option<Cow<'a, [f32]>>,
}

impl KeptWeights<'_> {
    fn as_weights(&self) -> Weights<'_> {
        Weights { filter: &self.filter, bias: self.bias.as_deref(), slope: self.slope.as_deref() }
    }
}

impl fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("shape", &self.shape)
            .field("has_weights", &self.has_weights())
            .field("packed_forms", &self.packed_forms())
            .field("packed_bytes", &self.packed_bytes())
            .finish()
    }
}

impl<'a> Filter<'a> {
    /// Makes a filter that borrows its weights.
    ///
    /// # Errors
    /// - The errors of [`FilterShape::elements`].
    /// - [`ConvError::BufferLen`] if the number of weights is not the one of `shape`, or if there are not as
    ///   many biases or slopes as output channels.
    pub fn new(shape: FilterShape, weights: Weights<'a>) -> Result<Self, ConvError> {
        let Weights { filter, bias, slope } = weights;
        let kept =
            KeptWeights { filter: filter.into(), bias: bias.map(Cow::from), slope: slope.map(Cow::from) };
        Self::with(shape, kept)
    }

    /// Makes a filter that owns its weights.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn from_vecs(
        shape: FilterShape,
        filter: Vec<f32>,
        bias: Option<Vec<f32>>,
        slope: Option<Vec<f32>>,
    ) -> Result<Self, ConvError> {
        let kept =
            KeptWeights { filter: filter.into(), bias: bias.map(Cow::from), slope: slope.map(Cow::from) };
        Self::with(shape, kept)
    }

    fn with(shape: FilterShape, kept: KeptWeights<'a>) -> Result<Self, ConvError> {
        let Weights { filter, bias, slope } = kept.as_weights();
        let channels = shape.out_channels;
        let lens = [
            ("filter", shape.elements()?, Some(filter)),
            ("bias", channels, bias),
            ("PReLU slopes", channels, slope),
        ];
        for (what, expected, values) in lens {
            if let Some(got) = values.map(<[f32]>::len).filter(|&got| got != expected) {
                return Err(ConvError::BufferLen { what, expected, got });
            }
        }
        let per_channel = [bias, slope].map(|values| values.map(<[f32]>::len));
        Ok(Self {
            shape,
            per_channel,
            weights: Some(kept),
            checksum: None,
            forms: Forms::default(),
            reuse_within: REUSE_WITHIN,
        })
    }

    /// Makes a filter whose only packed form is the form of `conv`.
    pub(super) fn of_packed(conv: &PreparedConv, isa: Isa) -> Filter<'static> {
        let shape = FilterShape::from(&conv.desc);
        let [_, bias, slope] = conv.form.lens();
        let per_channel = [bias, slope].map(|len| (len > 0).then_some(shape.out_channels));
        let forms = Forms::default();
        forms.keep(&conv.form, &conv.driver.packed(), isa);
        Filter { shape, per_channel, weights: None, checksum: None, forms, reuse_within: REUSE_WITHIN }
    }

    /// Returns the same filter with a copy of its weights, so that it borrows nothing.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`] if the system refuses the copy.
    pub fn into_owned(self) -> Result<Filter<'static>, ConvError> {
        let own = |what, values: Cow<'a, [f32]>| {
            Ok(Cow::Owned(match values {
                Cow::Borrowed(values) => try_copy(what, values)?,
                Cow::Owned(values) => values,
            }))
        };
        let Self { shape, per_channel, weights, checksum, forms, reuse_within } = self;
        let weights = match weights {
            None => None,
            Some(KeptWeights { filter, bias, slope }) => Some(KeptWeights {
                filter: own("filter", filter)?,
                bias: bias.map(|bias| own("bias", bias)).transpose()?,
                slope: slope.map(|slope| own("PReLU slopes", slope)).transpose()?,
            }),
        };
        Ok(Filter { shape, per_channel, weights, checksum, forms, reuse_within })
    }

    /// Limits the packed forms to `bytes`. A new form that exceeds the limit evicts the least recently used
    /// forms. The filter always keeps the newest form. After its original weights are dropped, it keeps all
    /// forms.
    ///
    /// A plan keeps its own form alive. The memory of an evicted form is freed when the last plan that uses
    /// it is dropped.
    pub fn max_packed_bytes(mut self, bytes: usize) -> Self {
        if self.has_weights() {
            self.forms.limit(bytes);
        }
        self
    }

    /// Sets how much slower than the best plan a plan may be to avoid packing. The default factor is 1.25.
    ///
    /// If the best form is not packed yet, a plan uses an already packed form, provided that the model
    /// expects at most `factor` times the time of the best form. With a factor of 1, every plan uses the best
    /// form.
    ///
    /// Without this rule, a layer whose image size changes would pack its weights again and again, especially
    /// for Fourier transforms of other lengths. The algorithm of a plan, and with it the last bits of its
    /// output, can therefore depend on the plans that were made before. Force an algorithm or set the factor
    /// to 1 to avoid this.
    pub fn reuse_within(mut self, factor: f64) -> Self {
        self.reuse_within = factor;
        self
    }

    /// Drops the original weights. Later plans can use only the forms that are already packed.
    pub fn drop_weights(&mut self) {
        self.weights = None;
        self.forms.limit(usize::MAX);
    }

    /// Whether the original weights are still there.
    pub fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// The extents of the filter.
    pub fn shape(&self) -> FilterShape {
        self.shape
    }

    /// Whether there is a bias for each output channel.
    pub fn has_bias(&self) -> bool {
        self.per_channel[0].is_some()
    }

    /// Whether there is a PReLU slope for each output channel.
    pub fn has_slope(&self) -> bool {
        self.per_channel[1].is_some()
    }

    /// Number of packed forms that the filter keeps.
    pub fn packed_forms(&self) -> usize {
        self.forms.len()
    }

    /// Bytes of the packed forms that the filter keeps, without the original weights.
    pub fn packed_bytes(&self) -> usize {
        self.forms.bytes()
    }

    /// Writes every packed form, with the version of this library, the machine and checksums. The filter can be
    /// locked meanwhile, so the writer must not use it.
    ///
    /// # Errors
    /// [`PackedError::Io`] if the writer fails.
    pub fn write_packed(&self, to: &mut impl Write) -> Result<(), PackedError> {
        bytes::write(self, to)
    }

    /// Reads forms that [`write_packed`](Self::write_packed) wrote for the same weights, and adds them to the
    /// filter. The reader is left after the last byte of this filter, so several filters can share a file.
    ///
    /// # Errors
    /// The filter is unchanged after an error. A [`PackedError`] says why the bytes were refused:
    /// - another format, library version or machine
    /// - other weights
    /// - damaged bytes
    /// - a reader that fails, or memory that the system refuses
    pub fn read_packed(&self, from: &mut impl Read) -> Result<(), PackedError> {
        bytes::read_into(self, from)
    }

    /// Makes a filter from the bytes that [`write_packed`](Self::write_packed) wrote. It does not have the
    /// original weights.
    ///
    /// # Errors
    /// The errors of [`read_packed`](Self::read_packed).
    pub fn from_packed(from: &mut impl Read) -> Result<Filter<'static>, PackedError> {
        bytes::read(from)
    }

    pub(super) fn reuse_factor(&self) -> f64 {
        self.reuse_within
    }

    pub(super) fn per_channel_lens(&self) -> [Option<usize>; 2] {
        self.per_channel
    }

    /// Whether the weights are packed in `form`.
    pub(super) fn has_packed(&self, form: &Form, kernels: &'static KernelSet) -> bool {
        self.forms.has(form, kernels.isa())
    }

    /// See [`Forms::keep`].
    pub(super) fn keep(&self, form: &Form, packed: &Packed, isa: Isa) {
        self.forms.keep(form, packed, isa);
    }

    /// Returns the weights in `form`, the form of `method`. Packs them if necessary. If `keep` is set, the
    /// filter keeps the form for other plans.
    pub(super) fn packed(
        &self,
        method: Method,
        form: &Form,
        kernels: &'static KernelSet,
        keep: bool,
    ) -> Result<Packed, ConvError> {
        let pack = || match &self.weights {
            Some(weights) => form.pack(&weights.as_weights(), self.shape.out_channels, kernels),
            None => Err(ConvError::WeightsDropped { method }),
        };
        self.forms.get(form, kernels.isa(), keep, pack)
    }
}
