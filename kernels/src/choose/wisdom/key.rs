//! [`WisdomKey`]: everything a measured time depends on besides the CPU and the library version.
//!
//! The text form has one word `name=value` per field. All fields are present, in a fixed order, separated by
//! single spaces. Each key has exactly one text: parsing accepts a text only if the parsed key prints it
//! again.

use crate::choose::model::Limits;
use crate::choose::numerics::Numerics;
use crate::describe::{
    Activation, Algorithm, Algorithms, ConvDesc, EpilogueSpec, Isa, Layout, Pad2, Products, ProductsSet,
    Shape4, Size2,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The problem, the instruction set, the thread limits and the limits on the choice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WisdomKey {
    desc: ConvDesc,
    isa: Isa,
    /// Maximum number of threads.
    max_threads: usize,
    /// Multiply-accumulates that justify one more thread.
    macs_per_thread: u64,
    /// Bytes that other work touches between two runs.
    bytes_between_runs: usize,
    numerics: Numerics,
    forbidden: Algorithms,
    forbidden_products: ProductsSet,
    max_workspace_bytes: Option<usize>,
    max_packed_bytes: Option<usize>,
}

/// How a plan runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs {
    pub(crate) max_threads: usize,
    pub(crate) macs_per_thread: u64,
    pub(crate) bytes_between_runs: usize,
}

/// Field names, in the order of the text.
const FIELDS: [&str; 19] = [
    "in",
    "out",
    "kernel",
    "stride",
    "pad",
    "dilation",
    "groups",
    "layouts",
    "bias",
    "residual",
    "activation",
    "isa",
    "threads",
    "macs",
    "between",
    "numerics",
    "without",
    "workspace",
    "packed",
];

/// The value of an absent field.
const NONE: &str = "-";

impl WisdomKey {
    /// The key of `desc` on the kernels of `isa`.
    pub(crate) fn new(desc: &ConvDesc, isa: Isa, limits: &Limits, runs: Runs) -> Self {
        let Runs { max_threads, macs_per_thread, bytes_between_runs } = runs;
        let Limits { numerics, forbidden, forbidden_products, max_workspace_bytes, max_packed_bytes, .. } =
            *limits;
        Self {
            desc: *desc,
            isa,
            max_threads,
            macs_per_thread,
            bytes_between_runs,
            numerics,
            forbidden,
            forbidden_products,
            max_workspace_bytes,
            max_packed_bytes,
        }
    }

    /// The values of [`FIELDS`], in the same order.
    fn values(&self) -> [String; FIELDS.len()] {
        let desc = &self.desc;
        let (Shape4 { n, c, h, w }, Pad2 { top, bottom, left, right }) = (desc.input(), desc.pad());
        let EpilogueSpec { bias, residual, activation, .. } = desc.epilogue();
        let size = |size: Size2| format!("{}x{}", size.h, size.w);
        let flag = |flag: bool| u8::from(flag).to_string();
        let cap = |bytes: Option<usize>| bytes.map_or(NONE.to_owned(), |bytes| bytes.to_string());
        let algorithms =
            Algorithm::ALL.into_iter().filter(|&a| self.forbidden.contains(a)).map(Algorithm::name);
        let products = Products::ALL.into_iter().filter(|&p| self.forbidden_products.contains(p));
        let without: Vec<&str> = algorithms.chain(products.map(Products::name)).collect();
        [
            format!("{n}x{c}x{h}x{w}"),
            desc.output().c.to_string(),
            size(desc.kernel()),
            size(desc.stride()),
            format!("{top},{bottom},{left},{right}"),
            size(desc.dilation()),
            desc.groups().to_string(),
            format!("{},{}", desc.layout(), desc.output_layout()),
            flag(bias),
            flag(residual),
            written(activation),
            self.isa.to_string(),
            self.max_threads.to_string(),
            self.macs_per_thread.to_string(),
            self.bytes_between_runs.to_string(),
            self.numerics.to_string(),
            if without.is_empty() { NONE.to_owned() } else { without.join(",") },
            cap(self.max_workspace_bytes),
            cap(self.max_packed_bytes),
        ]
    }

    /// Parses the values of [`FIELDS`]. Returns `None` if a value does not parse or the problem is invalid.
    fn read(values: &[&str; FIELDS.len()]) -> Option<Self> {
        let [input, out, kernel, stride, pad, dilation, groups, layouts, bias, residual, activation, ..] =
            *values;
        let [.., isa, threads, macs, between, numerics, without, workspace, packed] = *values;
        let [n, c, h, w] = numbers(input, 'x')?;
        let [top, bottom, left, right] = numbers(pad, ',')?;
        let size = |text: &str| numbers(text, 'x').map(|[h, w]| Size2::new(h, w));
        let flag = |text: &str| ["0", "1"].iter().position(|flag| *flag == text).map(|at| at == 1);
        let layout = |name: &str| Layout::ALL.into_iter().find(|layout| layout.name() == name);
        let cap = |text: &str| if text == NONE { Some(None) } else { text.parse().ok().map(Some) };
        let (input_layout, output_layout) = layouts.split_once(',')?;
        let epilogue = EpilogueSpec {
            bias: flag(bias)?,
            residual: flag(residual)?,
            activation: activation_of(activation)?,
        };
        let desc = ConvDesc::builder(Shape4::new(n, c, h, w), out.parse().ok()?, size(kernel)?)
            .stride(size(stride)?)
            .pad(Pad2 { top, bottom, left, right })
            .dilation(size(dilation)?)
            .groups(groups.parse().ok()?)
            .layout(layout(input_layout)?)
            .output_layout(layout(output_layout)?)
            .epilogue(epilogue)
            .build();
        let (mut forbidden, mut forbidden_products) = (Algorithms::NONE, ProductsSet::NONE);
        for name in without.split(',').filter(|&name| name != NONE) {
            match name.parse::<Products>() {
                Ok(products) => forbidden_products = forbidden_products.with(products),
                Err(_) => forbidden = forbidden.with(name.parse().ok()?),
            }
        }
        Some(Self {
            desc: desc.ok()?,
            isa: isa.parse().ok()?,
            max_threads: threads.parse().ok()?,
            macs_per_thread: macs.parse().ok()?,
            bytes_between_runs: between.parse().ok()?,
            numerics: numerics.parse().ok()?,
            forbidden,
            forbidden_products,
            max_workspace_bytes: cap(workspace)?,
            max_packed_bytes: cap(packed)?,
        })
    }
}

/// Exactly `N` numbers separated by `between`.
fn numbers<const N: usize>(text: &str, between: char) -> Option<[usize; N]> {
    let numbers: Option<Vec<usize>> = text.split(between).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// The name of an activation and its parameters, separated by commas.
fn written(activation: Activation) -> String {
    let name = activation.name();
    match activation {
        Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => format!("{name},{alpha}"),
        Activation::Clip { lo, hi } => format!("{name},{lo},{hi}"),
        _ => name.to_owned(),
    }
}

fn activation_of(text: &str) -> Option<Activation> {
    let (name, parameters) = text.split_once(',').unwrap_or((text, ""));
    let parameters: Option<Vec<f32>> =
        parameters.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().ok()).collect();
    let known = match parameters?[..] {
        [] => [
            Activation::None,
            Activation::Relu,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::PRelu,
            Activation::HardSwish,
            Activation::Silu,
        ]
        .to_vec(),
        [alpha] => vec![Activation::LeakyRelu { alpha }, Activation::Elu { alpha }],
        [lo, hi] => vec![Activation::Clip { lo, hi }],
        _ => return None,
    };
    known.into_iter().find(|activation| activation.name() == name)
}

/// The derived equality is reflexive: a checked descriptor has no NaN parameter.
impl Eq for WisdomKey {}

impl Hash for WisdomKey {
    /// Hashes the fields that distinguish most problems. Keys that differ only in other fields collide.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let desc = &self.desc;
        (desc.input(), desc.output(), desc.kernel(), desc.stride(), desc.groups()).hash(state);
        (desc.layout(), self.isa, self.max_threads, self.numerics).hash(state);
    }
}

impl fmt::Display for WisdomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in FIELDS.iter().zip(self.values()).enumerate() {
            write!(f, "{}{name}={value}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for WisdomKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected the key of a problem, got {:?}", text.chars().take(300).collect::<String>());
        let mut values = [""; FIELDS.len()];
        let mut words = text.split(' ');
        for (value, name) in values.iter_mut().zip(FIELDS) {
            let word = words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
            *value = word.ok_or_else(wrong)?;
        }
        let key = Self::read(&values).ok_or_else(wrong)?;
        // Another text of the same key, such as a number with a plus sign or a surplus word.
        if key.to_string() == text { Ok(key) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::model::Select;

    fn limits() -> Limits {
        Limits {
            select: Select::Measured,
            numerics: Numerics::Default,
            forbidden: Algorithms::NONE,
            forbidden_products: ProductsSet::NONE,
            max_workspace_bytes: None,
            max_packed_bytes: None,
        }
    }

    fn key(activation: Activation, limits: &Limits) -> WisdomKey {
        let epilogue = EpilogueSpec { bias: true, residual: false, activation };
        let desc = ConvDesc::builder(Shape4::new(1, 32, 12, 13), 64, Size2::new(3, 5))
            .pad(Pad2 { top: 1, bottom: 2, left: 3, right: 4 })
            .groups(2)
            .epilogue(epilogue)
            .build();
        WisdomKey::new(
            &desc.expect("valid"),
            Isa::Portable,
            limits,
            Runs { max_threads: 2, macs_per_thread: 100_000, bytes_between_runs: 1 << 20 },
        )
    }

    #[test]
    fn text_leads_back_to_the_same_key() {
        let plain = limits();
        let other = Limits {
            numerics: Numerics::Strict,
            forbidden: Algorithms::NONE.with(Algorithm::Fft).with(Algorithm::Direct),
            max_workspace_bytes: Some(0),
            max_packed_bytes: Some(1 << 20),
            ..plain
        };
        let activations = [
            Activation::None,
            Activation::Relu,
            Activation::LeakyRelu { alpha: 0.01 },
            Activation::LeakyRelu { alpha: -0.0 },
            Activation::Clip { lo: 0.0, hi: 6.0 },
            Activation::Clip { lo: f32::NEG_INFINITY, hi: f32::INFINITY },
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Elu { alpha: 1e-30 },
            Activation::PRelu,
            Activation::HardSwish,
            Activation::Silu,
        ];
        let mut texts = Vec::new();
        for limits in [plain, other] {
            for activation in activations {
                let key = key(activation, &limits);
                let text = key.to_string();
                assert_eq!(text.parse(), Ok(key), "{text}");
                assert!(!text.contains('\t') && !texts.contains(&text), "{text}");
                texts.push(text);
            }
        }
        assert_eq!(
            texts[1],
            "in=1x32x12x13 out=64 kernel=3x5 stride=1x1 pad=1,2,3,4 dilation=1x1 groups=2 layouts=nchw,nchw bias=1 \
             residual=0 activation=relu isa=portable threads=2 macs=100000 between=1048576 numerics=default without=- workspace=- packed=-"
        );
    }

    #[test]
    fn what_is_no_key_or_not_its_only_text_is_refused() {
        let text = key(Activation::Clip { lo: 0.0, hi: 6.0 }, &limits()).to_string();
        for (part, other) in [
            ("in=1x32", "in=+1x32"),
            ("in=1x32x12x13", "in=1x32x12"),
            ("in=1x32x12x13", "in=0x32x12x13"),
            ("in=1x32", "in=99999999999999999999x32"),
            ("in=1x32", "in=9999999999999999x9999999999999999"),
            ("groups=2", "groups=3"),
            ("clip,0,6", "clip,6,0"),
            ("clip,0,6", "clip,0,6.0"),
            ("clip,0,6", "clip,NaN,6"),
            ("clip,0,6", "relu,"),
            ("isa=portable", "isa=sse9"),
            ("without=-", "without=fft,direct"),
            ("without=-", "without=warp"),
            ("workspace=-", "workspace="),
            ("packed=-", "packed=- "),
            ("packed=-", "packed=- more=1"),
            (" packed=-", ""),
            ("in=", "input="),
            ("out=64 ", "out=64  "),
        ] {
            let broken = text.replacen(part, other, 1);
            assert_ne!(broken, text, "{part}");
            let refused = broken.parse::<WisdomKey>();
            assert!(
                refused.as_ref().is_err_and(|why| why.contains("key of a problem")),
                "{broken}: {refused:?}"
            );
        }
    }
}
