//! [`unroll!`]: loops whose bodies the compiler would not repeat by itself.

/// Maximum number of repetitions.
pub(super) const MOST: usize = 32;

/// Repeats a statement for every `j` below a constant, which is at most [`MOST`]. The compiler leaves a loop with a long body as it
/// is. Its accumulators would then have to be in memory, because registers have no addresses. The comparison is a constant,
/// so nothing is compiled for the other numbers.
macro_rules! unroll {
    ($j:ident in $end:expr => $statement:expr) => {
        const { assert!($end <= $crate::tile::unroll::MOST) };
        unroll!(@ $j $end, $statement, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    };
    (@ $j:ident $end:expr, $statement:expr, $($number:literal)+) => {
        $(if const { $number < $end } {
            let $j = $number;
            $statement;
        })+
    };
}
pub(super) use unroll;
