//! [`Chunks`]: the input channels of a group as chunks of sixteen lanes.

use crate::describe::BLOCK;
use crate::simd::Lanes;
use crate::tile::few_table::{FewChunks, Piece};
use std::ops::Range;

/// No lanes.
const NOTHING: Piece = Piece { block: 0, lanes: Lanes { lo: 0, hi: 0 } };

/// The input channels of a group. A channel is in the lane that it has in its block of sixteen channels, whether or not
/// the layout has blocks. A group has as few chunks as there can be: if its first lanes are not among its last lanes,
/// both are in one chunk.
///
/// ```text
/// blocks of the image  |. . . . . . 0 1|2 3 4 5 6 7 8 9|a b c . . . . .|     // with eight lanes instead of sixteen
/// chunks               |2 3 4 5 6 7 8 9|a b c . . . 0 1|
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    /// The lane of the first channel.
    lane: usize,
    ins: usize,
}

impl Chunks {
    /// The channels of `group` if each group has `ins`.
    pub(super) fn of(group: usize, ins: usize) -> Self {
        Self { lane: group * ins % BLOCK, ins }
    }

    /// Number of chunks of any group.
    pub(super) fn count(ins: usize) -> usize {
        ins.div_ceil(BLOCK)
    }

    /// Whether the two ends of the group are in one chunk.
    pub(super) fn is_joined(self) -> bool {
        let (_, partial, partials) = self.split();
        partials == 1 && partial[0][1].lanes.hi > 0
    }

    /// The whole blocks, the partial chunks, and the number of partial chunks.
    fn split(self) -> (Range<usize>, [[Piece; 2]; 2], usize) {
        let end = self.lane + self.ins;
        let first = usize::from(self.lane > 0);
        let whole = first..(end / BLOCK).max(first);
        let head = Piece { block: 0, lanes: Lanes { lo: self.lane, hi: end.min(BLOCK) } };
        let tail = Piece { block: end / BLOCK, lanes: Lanes { lo: 0, hi: end % BLOCK } };
        let has_head = self.lane > 0;
        let has_tail = tail.lanes.hi > 0 && tail.block >= first;
        let (partial, partials) = match (has_head, has_tail) {
            (false, false) => ([[NOTHING; 2]; 2], 0),
            (true, false) => ([[head, NOTHING], [NOTHING; 2]], 1),
            (false, true) => ([[tail, NOTHING], [NOTHING; 2]], 1),
            _ if tail.lanes.hi <= head.lanes.lo => ([[head, tail], [NOTHING; 2]], 1),
            _ => ([[head, NOTHING], [tail, NOTHING]], 2),
        };
        (whole, partial, partials)
    }

    /// Chunks `chunks`, as the tiles read them.
    pub(super) fn within(self, chunks: &Range<usize>) -> FewChunks {
        let (whole, mut partial, partials) = self.split();
        let of_whole = chunks.start.min(whole.len())..chunks.end.min(whole.len());
        let of_partial =
            chunks.start.max(whole.len()) - whole.len()..chunks.end.max(whole.len()) - whole.len();
        let of_partial = of_partial.start..of_partial.end.min(partials);
        partial.rotate_left(of_partial.start % 2);
        FewChunks {
            first: whole.start + of_whole.start,
            whole: of_whole.len(),
            partial,
            partials: of_partial.len(),
        }
    }

    /// The channel of the group in a lane of a chunk, if there is one.
    pub(super) fn channel(self, chunk: usize, lane: usize) -> Option<usize> {
        let (whole, partial, _) = self.split();
        let all = Piece { block: whole.start + chunk, lanes: Lanes { lo: 0, hi: BLOCK } };
        let pieces = if chunk < whole.len() { [all, NOTHING] } else { partial[chunk - whole.len()] };
        let piece = pieces.into_iter().find(|piece| (piece.lanes.lo..piece.lanes.hi).contains(&lane))?;
        Some(piece.block * BLOCK + lane - self.lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles read each channel once, in the lane where its weight is.
    #[test]
    fn every_channel_is_in_one_lane() {
        for ins in 1..=70 {
            for group in 0..BLOCK {
                let chunks = Chunks::of(group, ins);
                let channels = (0..Chunks::count(ins))
                    .flat_map(|chunk| (0..BLOCK).filter_map(move |lane| chunks.channel(chunk, lane)));
                let mut found: Vec<usize> = channels.collect();
                found.sort_unstable();
                assert_eq!(found, (0..ins).collect::<Vec<_>>(), "group {group} of {ins}");
                let mut read: Vec<usize> = (0..Chunks::count(ins))
                    .flat_map(|chunk| lanes(chunks.within(&(chunk..chunk + 1))))
                    .map(|channel| channel - chunks.lane)
                    .collect();
                read.sort_unstable();
                assert_eq!(read, found, "group {group} of {ins}");
                assert_eq!(lanes(chunks.within(&(0..Chunks::count(ins)))).len(), ins);
            }
        }
    }

    /// The channels that `chunks` reads, counted from lane 0 of the first block.
    fn lanes(chunks: FewChunks) -> Vec<usize> {
        let whole = (chunks.first..chunks.first + chunks.whole)
            .map(|block| Piece { block, lanes: Lanes { lo: 0, hi: BLOCK } });
        let partial = chunks.partial.into_iter().take(chunks.partials).flatten();
        whole
            .chain(partial)
            .flat_map(|piece| (piece.lanes.lo..piece.lanes.hi).map(move |lane| piece.block * BLOCK + lane))
            .collect()
    }
}
