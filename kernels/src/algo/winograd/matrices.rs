//! The transform matrices, computed from their points in exact arithmetic. No coefficient is typed in.
//!
//! The construction uses distinct points `p` and infinity (Toom 1963, Cook 1966; transposed as in Winograd
//! 1980). With `r` weights and `m` outputs there are `m + r - 1` points:
//!
//! ```text
//! y = A^T [(G g) * (B^T d)]     y[i] = sum over k of g[k] d[i + k]
//! B^T[p][j]  coefficient of x^j in the product of all (x - q), q another finite point; infinity: of all finite points
//! G[p][k]    p^k                                               infinity: 1 for the last k
//! A^T[i][p]  p^i / product of all (p - q)                      infinity: 1 for the last i
//! ```
//!
//! The divisor of a point can be part of G or of A. It is part of A here, so that it is applied to sums and
//! does not add a rounding error to each weight. The divisor of point 0 is part of G, because in A it would
//! cost a multiplication that is not needed otherwise.

use crate::tile::winograd::{Coefficients, MOST_OUTPUTS, MOST_PAIRS, OneWay};
use crate::tile::winograd_operands::WinogradTile;
use std::ops::{Add, Mul, Neg, Sub};

/// An exact fraction in lowest terms, with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio(i128, i128);

impl Ratio {
    pub(super) const ZERO: Self = Self(0, 1);
    pub(super) const ONE: Self = Self(1, 1);

    pub(super) fn new(n: i128, d: i128) -> Self {
        let gcd = |mut a: i128, mut b: i128| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a.abs()
        };
        let by = gcd(n, d) * d.signum();
        Self(n / by, d / by)
    }

    fn inverse(self) -> Self {
        Self::new(self.1, self.0)
    }

    fn pow(self, n: usize) -> Self {
        (0..n).fold(Self::ONE, |power, _| power * self)
    }

    pub(super) fn to_f64(self) -> f64 {
        self.0 as f64 / self.1 as f64
    }
}

impl Add for Ratio {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }
}

impl Neg for Ratio {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0, self.1)
    }
}

impl Sub for Ratio {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Ratio {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::new(self.0 * other.0, self.1 * other.1)
    }
}

/// The coefficients of the product of all `(x - root)`, from the coefficient of `x^0` on.
fn product_of(roots: impl Iterator<Item = Ratio>) -> Vec<Ratio> {
    roots.fold(vec![Ratio::ONE], |product, root| {
        let mut next = vec![Ratio::ZERO; product.len() + 1];
        for (k, &c) in product.iter().enumerate() {
            next[k + 1] = next[k + 1] + c;
            next[k] = next[k] - root * c;
        }
        next
    })
}

/// The pairs `+-p` of points in addition to 0 and infinity, for `points` points in total. One point is infinity.
///
/// Points near 1 in magnitude keep powers small, and so rounding errors (Alam et al. 2022). Pairs whose
/// product is 1 save a multiplication. The measured errors are in docs/algorithms/winograd.md.
fn pairs(points: usize) -> Vec<Ratio> {
    let pairs: &[(i128, i128)] = match points {
        1 => &[],
        4 => &[(1, 1)],
        6 => &[(2, 3), (3, 2)],
        _ => &[(1, 2), (1, 1), (2, 1)],
    };
    pairs.iter().map(|&(n, d)| Ratio::new(n, d)).collect()
}

/// The coefficients of a tile.
pub(crate) fn coefficients(tile: WinogradTile) -> Coefficients {
    let WinogradTile { points, outputs } = tile;
    let of = |points, outputs| Matrices::new(points, outputs).coefficients();
    Coefficients { y: of(points.h, outputs.h), x: of(points.w, outputs.w) }
}

/// The matrices of one axis of F(m, r).
pub(super) struct Matrices {
    /// The finite points: 0 and both points of each pair.
    finite: Vec<Ratio>,
    pairs: Vec<Ratio>,
    outputs: usize,
    /// `[point][weight]`.
    pub(super) g: Vec<Vec<Ratio>>,
}

impl Matrices {
    pub(super) fn new(points: usize, outputs: usize) -> Self {
        let pairs = pairs(points);
        // An axis that is not transformed has the point at infinity alone, whose matrices are 1.
        let zero = (points > 1).then_some(Ratio::ZERO);
        let finite: Vec<Ratio> = zero.into_iter().chain(pairs.iter().flat_map(|&p| [p, -p])).collect();
        let weights = points + 1 - outputs;
        let mut new = Self { finite, pairs, outputs, g: Vec::new() };
        let unit = |k| if k + 1 == weights { Ratio::ONE } else { Ratio::ZERO };
        let of_point = |p: Ratio| {
            let scale = if p == Ratio::ZERO { new.divisor(p).inverse() } else { Ratio::ONE };
            (0..weights).map(|k| scale * p.pow(k)).collect()
        };
        let mut g: Vec<Vec<Ratio>> = new.finite.iter().map(|&p| of_point(p)).collect();
        g.push((0..weights).map(unit).collect());
        new.g = g;
        new
    }

    /// The product of all `p - q`, where `q` is another finite point.
    fn divisor(&self, p: Ratio) -> Ratio {
        self.finite.iter().filter(|&&q| q != p).fold(Ratio::ONE, |product, &q| product * (p - q))
    }

    /// The coefficients that the tiles use: the even and odd parts of `B^T` and `A^T`, and those of `G`.
    pub(super) fn coefficients(&self) -> OneWay {
        let mut c = OneWay::default();
        // As polynomials in x^2, whose roots are the squares of the pairs.
        let squares = |without: Option<usize>| {
            let others = self.pairs.iter().enumerate().filter(move |&(j, _)| Some(j) != without);
            product_of(others.map(|(_, &p)| p * p))
        };
        let f32 = |x: Ratio| x.to_f64() as f32;
        c.zero = f32(self.g[0][0]);
        assert!(self.pairs.len() <= MOST_PAIRS && self.outputs <= MOST_OUTPUTS);
        for (i, &p) in self.pairs.iter().enumerate() {
            (c.p[i], c.squares[i]) = (f32(p), f32(p * p));
            let others = squares(Some(i));
            others[..others.len() - 1].iter().enumerate().for_each(|(k, &x)| c.others[i][k] = f32(x));
            for r in 0..self.outputs {
                c.output[i][r] = f32(p.pow(r) * self.divisor(p).inverse());
            }
            c.all[i] = f32(squares(None)[i]);
        }
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `B^T` and `A^T` by their definitions.
    fn whole(matrices: &Matrices) -> (Vec<Vec<Ratio>>, Vec<Vec<Ratio>>) {
        let points = matrices.finite.len() + 1;
        let without = |p: Option<Ratio>| {
            let others = matrices.finite.iter().copied().filter(move |&q| Some(q) != p);
            let mut row = product_of(others);
            row.resize(points, Ratio::ZERO);
            row
        };
        let mut bt: Vec<_> = matrices.finite.iter().map(|&p| without(Some(p))).collect();
        bt.push(without(None));
        let scale = |p: Ratio| if p == Ratio::ZERO { Ratio::ONE } else { matrices.divisor(p).inverse() };
        let row = |i: usize| {
            let mut row: Vec<_> = matrices.finite.iter().map(|&p| scale(p) * p.pow(i)).collect();
            row.push(if i + 1 == matrices.outputs { Ratio::ONE } else { Ratio::ZERO });
            row
        };
        (bt, (0..matrices.outputs).map(row).collect())
    }

    const KINDS: [(usize, usize); 10] =
        [(1, 1), (4, 2), (4, 3), (6, 4), (6, 3), (6, 2), (8, 6), (8, 4), (8, 3), (8, 2)];

    #[test]
    fn the_transforms_are_a_convolution() {
        for (points, outputs) in KINDS {
            let matrices = Matrices::new(points, outputs);
            let (bt, at) = whole(&matrices);
            for (i, a) in at.iter().enumerate() {
                for k in 0..=points - outputs {
                    for j in 0..points {
                        let terms = bt.iter().zip(&matrices.g).zip(a).map(|((b, g), &a)| a * g[k] * b[j]);
                        let sum = terms.fold(Ratio::ZERO, Add::add);
                        let expected = if j == i + k { Ratio::ONE } else { Ratio::ZERO };
                        assert_eq!(sum, expected, "F({outputs}, {}): y{i} g{k} d{j}", points + 1 - outputs);
                    }
                }
            }
        }
    }

    #[test]
    fn coefficients_are_parts_of_the_matrices() {
        for (points, outputs) in KINDS {
            let matrices = Matrices::new(points, outputs);
            let (bt, at) = whole(&matrices);
            let c = matrices.coefficients();
            let f32 = |x: Ratio| x.to_f64() as f32;
            for k in 0..MOST_PAIRS.min(matrices.pairs.len()) {
                assert_eq!([c.all[k]; 2], [f32(bt[0][2 * k]), f32(bt[points - 1][2 * k + 1])]);
            }
            assert_eq!(c.zero, f32(matrices.g[0][0]));
            for (i, &p) in matrices.pairs.iter().enumerate() {
                let rows = [2 * i + 1, 2 * i + 2];
                assert_eq!([c.p[i], c.squares[i]], [f32(matrices.g[rows[0]][1]), f32(p * p)]);
                for k in 0..matrices.pairs.len() - 1 {
                    for (row, sign) in rows.into_iter().zip([p, -p]) {
                        assert_eq!(f32(bt[row][2 * k + 2]), c.others[i][k]);
                        assert_eq!(bt[row][2 * k + 1], sign * bt[row][2 * k + 2]);
                    }
                }
                for (r, a) in at.iter().enumerate() {
                    assert_eq!(f32(a[rows[0]]), c.output[i][r]);
                    let sign = if r % 2 == 0 { Ratio::ONE } else { -Ratio::ONE };
                    assert_eq!(a[rows[1]], sign * a[rows[0]]);
                }
            }
        }
    }
}
