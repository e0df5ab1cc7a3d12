//! [`Products`]: how a convolution multiplies, and [`Method`]: an algorithm with its products.

use super::{Algorithm, ConvError, by_name};
use std::fmt;
use std::str::FromStr;

/// The numbers that a convolution multiplies. Sums are always `f32`.
///
/// The bf16 products split each `f32` operand into one, two or three bf16 numbers, its *parts*, and multiply
/// the parts (Henry, Tang and Heinecke 2019). An `f32` is exactly the sum of three bf16 numbers, so six of
/// the nine products of their parts are as accurate as `f32` products. The chapter on tiles has the errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Products {
    /// Fused multiply-adds of `f32`.
    #[default]
    F32,
    /// Six products of three parts. The products that are left out are below `2^-21` of the whole.
    Bf16x6,
    /// Three products of two parts. The product that is left out is below `2^-16` of the whole.
    Bf16x3,
    /// One product of operands that are rounded to bf16, which has 8 bits of precision.
    Bf16,
}

impl Products {
    /// All products, the most accurate first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16x6, Self::Bf16x3, Self::Bf16];

    /// The name: `"f32"`, `"bf16x6"`, `"bf16x3"` or `"bf16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x6 => "bf16x6",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
        }
    }

    /// The number of bf16 parts of an operand; 0 for `f32`.
    pub(crate) const fn parts(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::Bf16x6 => 3,
            Self::Bf16x3 => 2,
            Self::Bf16 => 1,
        }
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Products {
    type Err = ConvError;

    /// Parses products by their [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("products", &Self::ALL, Self::name, text)
    }
}

/// An [`Algorithm`] and the [`Products`] that it computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The numbers that it multiplies.
    pub products: Products,
}

impl Method {
    /// The number of methods: every algorithm with all products that it can have.
    pub(crate) const COUNT: usize = Algorithm::ALL.len() * Products::ALL.len();

    /// `algorithm` with `products`.
    pub const fn new(algorithm: Algorithm, products: Products) -> Self {
        Self { algorithm, products }
    }

    /// Every algorithm with each of `products` that it can have, the products of an algorithm together.
    pub fn all(products: &[Products]) -> impl Iterator<Item = Self> {
        let each = |algorithm| products.iter().map(move |&products| Self { algorithm, products });
        Algorithm::ALL.into_iter().flat_map(each).filter(|method| method.exists())
    }

    /// Whether this algorithm can have these products for any problem.
    pub(crate) fn exists(self) -> bool {
        match (self.products, self.algorithm) {
            (Products::F32, _) => true,
            (_, Algorithm::Im2colGemm | Algorithm::Pointwise | Algorithm::Direct) => true,
            // Plain bf16 loses too much in any transform.
            (
                Products::Bf16x6 | Products::Bf16x3,
                Algorithm::Winograd2x2 | Algorithm::Winograd4x2 | Algorithm::Winograd4x4,
            ) => true,
            _ => false,
        }
    }
}

impl From<Algorithm> for Method {
    /// The algorithm with `f32` products.
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, products: Products::F32 }
    }
}

impl PartialEq<Algorithm> for Method {
    /// Whether this is the algorithm with `f32` products.
    fn eq(&self, algorithm: &Algorithm) -> bool {
        *self == Self::from(*algorithm)
    }
}

impl fmt::Display for Method {
    /// The name of the algorithm, followed by `+` and the products unless these are `f32`: `direct+bf16x3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.products {
            Products::F32 => f.pad(self.algorithm.name()),
            products => f.pad(&format!("{}+{products}", self.algorithm)),
        }
    }
}

impl FromStr for Method {
    type Err = ConvError;

    /// As `Display` writes it.
    fn from_str(text: &str) -> Result<Self, ConvError> {
        let Some((algorithm, products)) = text.split_once('+') else {
            return Ok(Self::from(text.parse::<Algorithm>()?));
        };
        let method = Self { algorithm: algorithm.parse()?, products: products.parse()? };
        if !method.exists() {
            return Err(ConvError::field("method", "an algorithm that has these products", text));
        }
        Ok(method)
    }
}

/// A set of [`Products`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProductsSet(u8);

impl ProductsSet {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// This set with `products` added.
    pub const fn with(self, products: Products) -> Self {
        Self(self.0 | 1 << products as u8)
    }

    /// Whether the set contains `products`.
    pub const fn contains(self, products: Products) -> bool {
        self.0 & 1 << products as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_as_they_are_written() {
        let all: Vec<Method> = Method::all(&Products::ALL).collect();
        assert!(all.len() > Algorithm::ALL.len() && all.len() <= Method::COUNT);
        for method in all {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        assert_eq!("direct".parse(), Ok(Method::from(Algorithm::Direct)));
        assert_eq!(Method::new(Algorithm::Direct, Products::Bf16x3).to_string(), "direct+bf16x3");
        let error = "fft+bf16".parse::<Method>().unwrap_err().to_string();
        assert_eq!(error, "method: expected an algorithm that has these products, got fft+bf16");
        let error = "direct+f16".parse::<Method>().unwrap_err().to_string();
        assert_eq!(error, "products: expected f32, bf16x6, bf16x3 or bf16, got f16");
    }
}
