//! Assigns each storage a place in one block of memory, as low as possible without overlapping storages that
//! live at the same time.

use std::ops::Range;

/// `f32` elements per cache line.
const LINE: usize = 16;
/// `f32` elements per 4 KB. The store buffer of x86 confuses loads and stores at equal offsets in 4 KB pages,
/// and planes at equal offsets compete for the same sets of the first-level cache.
const PAGE: usize = 1024;

/// The memory that a storage needs, and its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) len: usize,
    /// The steps of its first write and its last use.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Returns the offset of each storage (0 if it needs no memory) and the total number of elements.
pub(crate) fn assign(needs: &[Option<Need>]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; needs.len()];
    let mut order: Vec<(usize, Need)> =
        needs.iter().enumerate().filter_map(|(index, need)| Some((index, (*need)?))).collect();
    // Place large storages first. Small ones fit into the gaps between them.
    order.sort_by_key(|&(index, need)| (std::cmp::Reverse(need.len), need.first, index));
    let mut placed: Vec<(Range<usize>, Need)> = Vec::new();
    let mut total = 0;
    for (index, need) in order {
        let taken = placed.iter().filter(|(_, other)| need.first <= other.last && other.first <= need.last);
        let mut taken: Vec<Range<usize>> = taken.map(|(range, _)| range.clone()).collect();
        taken.sort_by_key(|range| range.start);
        let len = padded(need.len);
        let start = tightest(&taken, len);
        offsets[index] = start;
        total = total.max(start + len);
        placed.push((start..start + len, need));
    }
    (offsets, total)
}

/// Rounds up to cache lines. A storage that is a multiple of 4 KB gets five more lines, so that the next one
/// does not begin at the same offset in a page.
fn padded(len: usize) -> usize {
    let len = len.next_multiple_of(LINE);
    if len.is_multiple_of(PAGE) { len + 5 * LINE } else { len }
}

/// The start of the smallest gap for `len` between the ranges `taken`, which are sorted by start. If no gap
/// fits, the end of the last range.
fn tightest(taken: &[Range<usize>], len: usize) -> usize {
    let (mut end, mut best) = (0, None);
    for range in taken {
        let gap = range.start.saturating_sub(end);
        if gap >= len && best.is_none_or(|(smallest, _)| gap < smallest) {
            best = Some((gap, end));
        }
        end = end.max(range.end);
    }
    best.map_or(end, |(_, start)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(len: usize, first: usize, last: usize) -> Option<Need> {
        Some(Need { len, first, last })
    }

    #[test]
    fn what_lives_at_the_same_time_does_not_overlap() {
        let needs = [need(160, 0, 2), need(48, 1, 3), None, need(96, 2, 4), need(160, 3, 5), need(32, 0, 5)];
        let (offsets, total) = assign(&needs);
        for (i, a) in needs.iter().enumerate() {
            for (j, b) in needs.iter().enumerate().skip(i + 1) {
                let (Some(a), Some(b)) = (a, b) else { continue };
                let apart = offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i];
                assert!(apart || a.last < b.first || b.last < a.first, "{i} and {j}");
            }
        }
        assert!(total <= 160 + 96 + 48 + 32, "{total}");
        assert_eq!(offsets[4], offsets[0], "the first one's memory is used again");
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let chain = [need(80, 0, 1), need(48, 1, 2), need(144, 2, 3), need(16, 3, 4)];
        assert_eq!(assign(&chain).1, 144 + 48);
    }

    #[test]
    fn neighbours_do_not_begin_a_multiple_of_4_kb_apart() {
        let (offsets, _) = assign(&[need(4096, 0, 1), need(4096, 0, 1), need(4096, 0, 1)]);
        assert!(offsets.iter().skip(1).all(|offset| offset % PAGE != 0), "{offsets:?}");
    }
}
