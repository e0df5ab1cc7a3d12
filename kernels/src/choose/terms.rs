//! [`Terms`]: how a predicted time divides among parts of the work. [`Comparison`]: why one algorithm is slower than
//! another.

use std::fmt;

/// The largest part of a predicted time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// Multiply-adds, transforms, copies and calls.
    Compute,
    /// Bytes from the second cache level.
    L2,
    /// Bytes from the third cache level.
    L3,
    /// Bytes from memory.
    Dram,
}

impl Bound {
    /// `"compute"`, `"L2"`, `"L3"` or `"DRAM"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Dram => "DRAM",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The predicted time of the busiest thread by part of the work, in seconds. The sum is
/// [`Estimate::seconds`](super::Estimate::seconds).
///
/// If moving the bytes at the full rate of the third-level cache and of memory takes longer than all other
/// terms together, the bytes hide those terms. They are zero then, except for the cost of starting other
/// threads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Terms {
    /// Multiply-adds that the outputs need; for Winograd and Fourier transforms, those of the transformed
    /// tiles.
    pub arithmetic: f64,
    /// FMA slots that contribute to no output: empty lanes and rows of tiles, columns at the border of the
    /// image, the surplus of the busiest thread over the others, and stalls on sums in flight.
    pub edges: f64,
    /// Beginning and ending register tiles, storing their sums, and reading the sums again where K is split.
    pub tiles: f64,
    /// Transforms of inputs and outputs in Winograd and Fourier algorithms.
    pub transforms: f64,
    /// Copying or reordering inputs and outputs.
    pub packing: f64,
    /// Kernel calls, the run itself, and handing work to other threads.
    pub calls: f64,
    /// Bytes from the second-level cache, as far as other work does not hide them.
    pub l2: f64,
    /// Bytes from the third-level cache, as far as other work does not hide them.
    pub l3: f64,
    /// Bytes from memory, as far as other work does not hide them.
    pub dram: f64,
    /// Added by a rule: where Pointwise can do a problem at stride 1, few algorithms rank before it, and none before Depthwise
    /// where groups of one channel are only scaled.
    pub rule: f64,
}

impl Terms {
    /// Number of terms.
    const COUNT: usize = 10;

    /// Every term with its name, in seconds.
    pub const fn all(&self) -> [(&'static str, f64); Self::COUNT] {
        [
            ("arithmetic", self.arithmetic),
            ("edges", self.edges),
            ("tiles", self.tiles),
            ("transforms", self.transforms),
            ("packing", self.packing),
            ("calls", self.calls),
            ("bytes from L2", self.l2),
            ("bytes from L3", self.l3),
            ("bytes from DRAM", self.dram),
            ("not before a simpler one", self.rule),
        ]
    }

    /// The sum, in seconds.
    pub fn total(&self) -> f64 {
        self.all().iter().map(|(_, seconds)| seconds).sum()
    }

    /// The largest of compute (everything but the bytes and the rule) and the bytes of each level.
    pub(super) fn bound(&self) -> Bound {
        let compute = self.arithmetic + self.edges + self.tiles + self.transforms + self.packing + self.calls;
        let bytes = [(Bound::L2, self.l2), (Bound::L3, self.l3), (Bound::Dram, self.dram)];
        bytes.into_iter().fold((Bound::Compute, compute), |a, b| if b.1 > a.1 { b } else { a }).0
    }

    /// Raises the rule's term until the sum is at least `seconds`.
    pub(super) fn raised_to(self, seconds: f64) -> Self {
        Self { rule: self.rule + (seconds - self.total()).max(0.0), ..self }
    }
}

impl fmt::Display for Terms {
    /// Writes every nonzero term in milliseconds, largest first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.all();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (index, (name, seconds)) in all.iter().filter(|(_, seconds)| *seconds > 0.0).enumerate() {
            write!(f, "{}{name} {}", if index > 0 { ", " } else { "" }, Milliseconds(*seconds))?;
        }
        Ok(())
    }
}

/// One line of a [`Comparison`], in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The name of a term of [`Terms::all`], or `rest`.
    pub name: &'static str,
    /// Seconds of the rejected algorithm.
    pub other: f64,
    /// Seconds of the chosen algorithm.
    pub chosen: f64,
}

impl Difference {
    fn by(&self) -> f64 {
        self.other - self.chosen
    }
}

/// Two predictions side by side.
///
/// [`Display`](fmt::Display) writes the terms that make the difference:
/// `0.8100 ms to 0.4200; arithmetic 0.6000 to 0.3100, bytes from L3 0.1500 to 0.0400, rest 0.0600 to 0.0700`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    other: Terms,
    chosen: Terms,
}

impl Comparison {
    /// Fraction of the difference that can be left to `rest`.
    const UNNAMED: f64 = 0.1;

    pub(super) fn new(other: Terms, chosen: Terms) -> Self {
        Self { other, chosen }
    }

    /// The terms that differ most, largest difference first, until they explain nine tenths of the total
    /// difference. A last line `rest` sums all others, so each side adds up to its prediction.
    pub fn differences(&self) -> Vec<Difference> {
        let pairs = self.other.all().into_iter().zip(self.chosen.all());
        let mut all: Vec<Difference> =
            pairs.map(|((name, other), (_, chosen))| Difference { name, other, chosen }).collect();
        all.sort_by(|a, b| b.by().abs().total_cmp(&a.by().abs()));
        let gap: f64 = all.iter().map(Difference::by).sum();
        let mut explained = 0.0;
        let is_enough = |difference: &Difference| {
            explained += difference.by();
            (explained - gap).abs() <= Self::UNNAMED * gap.abs()
        };
        let named = all.iter().position(is_enough).map_or(all.len(), |last| last + 1);
        let rest = all.split_off(named);
        let sum = |of: fn(&Difference) -> f64| rest.iter().map(of).sum::<f64>();
        let rest = Difference { name: "rest", other: sum(|d| d.other), chosen: sum(|d| d.chosen) };
        if rest.other > 0.0 || rest.chosen > 0.0 {
            all.push(rest);
        }
        all
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (other, chosen) = (Milliseconds(self.other.total()), Milliseconds(self.chosen.total()));
        write!(f, "{other} ms to {chosen}")?;
        for (index, Difference { name, other, chosen }) in self.differences().into_iter().enumerate() {
            let (other, chosen) = (Milliseconds(other), Milliseconds(chosen));
            write!(f, "{} {name} {other} to {chosen}", if index > 0 { "," } else { ";" })?;
        }
        Ok(())
    }
}

/// Seconds, written in milliseconds with the precision of the tables.
pub(super) struct Milliseconds(pub(super) f64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0.0 { f.write_str("0") } else { write!(f, "{:.4}", 1e3 * self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_most_is_named_first_and_the_rest_adds_up() {
        let other =
            Terms { arithmetic: 0.6e-3, l3: 0.15e-3, packing: 0.05e-3, calls: 0.01e-3, ..Terms::default() };
        let chosen =
            Terms { arithmetic: 0.31e-3, l3: 0.04e-3, tiles: 0.06e-3, calls: 0.01e-3, ..Terms::default() };
        let comparison = Comparison::new(other, chosen);
        assert_eq!(
            comparison.to_string(),
            "0.8100 ms to 0.4200; arithmetic 0.6000 to 0.3100, bytes from L3 0.1500 to 0.0400, rest 0.0600 to 0.0700"
        );
        assert_eq!(chosen.to_string(), "arithmetic 0.3100, tiles 0.0600, bytes from L3 0.0400, calls 0.0100");
    }

    #[test]
    fn the_bound_is_the_largest_and_the_rule_raises_the_sum() {
        let terms = Terms { arithmetic: 1.0, edges: 1.0, l2: 1.5, dram: 1.8, ..Terms::default() };
        assert_eq!(terms.bound(), Bound::Compute);
        assert_eq!(Terms { dram: 2.1, ..terms }.bound(), Bound::Dram);
        assert_eq!(terms.raised_to(6.0).total(), 6.0);
        assert_eq!(terms.raised_to(1.0), terms);
    }
}
