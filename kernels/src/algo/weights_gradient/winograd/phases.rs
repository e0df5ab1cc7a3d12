//! The phases of a strided kernel. The taps of a phase are a stride apart, and so are the pixels that they read. For each
//! phase, the gradient is that of a smaller filter of stride 1:
//!
//! ```text
//! 3x3 at stride 2:   a b a        a: 2x2 taps on the even rows and columns
//!                    c d c        b, c: 2x1 and 1x2 taps
//!                    a b a        d: one tap
//! ```

use super::super::windows::Windows;
use crate::algo::grid::TileGrid;
use crate::algo::winograd::{Folded, FoldedMap, Places, TiledMap, coefficients};
use crate::describe::{ConvDesc, Layout, Size2, Unsupported};
use crate::tile::winograd::Coefficients;
use crate::tile::winograd_operands::WinogradTile;
use std::ops::{Range, RangeInclusive};

/// Maximum number of phases. Each reads all gradients.
const MOST_PHASES: usize = 16;
/// The transforms that are compiled, by points and taps along an axis.
const COMPILED: [(usize, RangeInclusive<usize>); 2] = [(6, 2..=5), (8, 3..=6)];

/// A phase of the kernel, and its maps.
pub(super) struct Phase {
    /// The first tap along each axis. The others are a stride apart.
    pub(super) first: Size2,
    /// F(taps, pixels of the gradient).
    pub(super) of_filter: WinogradTile,
    /// The tiles of the image. They are as far apart as those of the gradient.
    pub(super) of_image: WinogradTile,
    pub(super) coefficients: Coefficients,
    pub(super) image: TiledMap,
    pub(super) gradients: TiledMap,
    images: usize,
    /// If strips of tiles go down the columns: the rows of tiles that form them.
    down: Option<Range<usize>>,
}

/// The maps of a convolution without dilation.
struct Maps {
    images: usize,
    input: FoldedMap,
    output: FoldedMap,
    kernel: Size2,
    stride: Size2,
    before: Size2,
    /// The folded convolution, if strips of tiles go down its columns.
    down: Option<Folded>,
}

impl Maps {
    /// # Errors
    /// If a dilation is left.
    fn of(desc: &ConvDesc) -> Result<Self, Unsupported> {
        let Windows { images, input, output, kernel, stride, dilation, before, .. } = Windows::new(desc);
        let one = Size2::square(1);
        if dilation == one || kernel == one {
            let (input, output) = (FoldedMap::of(input), FoldedMap::of(output));
            return Ok(Self { images, input, output, kernel, stride, before, down: None });
        }
        let folded = Folded::of(desc);
        if folded.dilation != one {
            return Err(Unsupported::NotWinograd);
        }
        let (input, output, before) = (folded.input, folded.output, folded.before);
        // In NCHW, the pixels of a strip are copied, and must be adjacent.
        let is_copied = [desc.layout(), desc.output_layout()].contains(&Layout::Nchw);
        let down = (folded.has_short_rows() && !is_copied).then_some(folded);
        Ok(Self { images, input, output, kernel: folded.taps(), stride: one, before, down })
    }

    /// The taps of the phase that begins at tap `first`.
    fn taps_from(&self, first: Size2) -> Size2 {
        let of = |kernel: usize, first: usize, stride| (kernel - first).div_ceil(stride);
        Size2::new(of(self.kernel.h, first.h, self.stride.h), of(self.kernel.w, first.w, self.stride.w))
    }

    /// The first taps of all phases.
    fn firsts(&self) -> impl Iterator<Item = Size2> + use<> {
        let (rows, columns) = (self.stride.h.min(self.kernel.h), self.stride.w.min(self.kernel.w));
        (0..rows).flat_map(move |h| (0..columns).map(move |w| Size2::new(h, w)))
    }

    /// The number of taps along an axis of the largest phase.
    ///
    /// # Errors
    /// If it has one tap, or there are too many phases.
    fn most_taps(&self) -> Result<usize, Unsupported> {
        let Self { kernel, stride, .. } = *self;
        let Size2 { h, w } = self.taps_from(Size2::square(0));
        let count = stride.h.min(kernel.h).saturating_mul(stride.w.min(kernel.w));
        if h.max(w) < 2 || count > MOST_PHASES { Err(Unsupported::NotWinograd) } else { Ok(h.max(w)) }
    }

    fn phase(&self, first: Size2) -> Option<Phase> {
        let of_filter = self.tile_for(self.taps_from(first))?;
        let of_image = of_filter.exchanged();
        let gradients = TiledMap {
            size: self.output,
            before: Size2::square(0),
            rows: of_image.outputs.h,
            down: self.step_down(of_image),
            places: Places::all(self.output.width),
        };
        Some(Phase {
            first,
            of_filter,
            of_image,
            coefficients: coefficients(of_filter),
            image: self.image_from(first, of_image),
            gradients,
            images: self.images,
            down: self.rows_down(of_image),
        })
    }

    /// If strips go down the columns: the pixels from one tile to the next, and the rows of tiles that form strips.
    fn step_down(&self, of_image: WinogradTile) -> Option<usize> {
        self.down.as_ref().map(|folded| of_image.outputs.h * folded.output.width)
    }

    fn rows_down(&self, of_image: WinogradTile) -> Option<Range<usize>> {
        self.down.as_ref().map(|folded| folded.inner_rows(of_image.points.h, of_image.outputs.h))
    }

    /// The pixels that the taps from `first` on read.
    fn image_from(&self, first: Size2, of_image: WinogradTile) -> TiledMap {
        let Self { input, stride, before, .. } = *self;
        let (rows, down) = (of_image.points.h, self.step_down(of_image));
        if stride == Size2::square(1) {
            // Only then can the maps be folded.
            return TiledMap { size: input, before, rows, down, places: Places::all(input.width) };
        }
        let input = Size2::new(input.rows(), input.width);
        TiledMap::of_phase(input, stride, before, first, rows)
    }

    /// The tile with the fewest products for all pixels of the gradient.
    fn tile_for(&self, taps: Size2) -> Option<WinogradTile> {
        let is_square = taps.h > 1 && taps.w > 1;
        if is_square && taps.h != taps.w {
            return None;
        }
        let tile = |(points, of_taps): &(usize, RangeInclusive<usize>)| {
            let axis = |taps: usize| match taps {
                1 => Some(1),
                _ => of_taps.contains(&taps).then_some(*points),
            };
            Some(WinogradTile { points: Size2::new(axis(taps.h)?, axis(taps.w)?), outputs: taps })
        };
        // Tiles of 8x8 points are not as accurate.
        let tiles = COMPILED.iter().filter_map(tile).filter(|tile| !is_square || tile.points.h == 6);
        tiles.min_by_key(|tile| tile.products().saturating_mul(self.tiles(tile.exchanged())))
    }

    /// The number of tiles of all gradients.
    fn tiles(&self, of_image: WinogradTile) -> usize {
        tiles(self.images, self.output, of_image).len()
    }
}

fn tiles(images: usize, output: FoldedMap, of_image: WinogradTile) -> TileGrid {
    let size = Size2::new(output.rows(), output.width);
    TileGrid::of_maps(images, size, of_image.outputs).with_partial_row(output.partial)
}

impl Phase {
    pub(super) fn taps(&self) -> usize {
        self.of_filter.outputs.h * self.of_filter.outputs.w
    }

    /// The places of the taps in the kernel, in its order.
    pub(super) fn places(&self, windows: &Windows) -> impl Iterator<Item = usize> + use<> {
        let (first, taps, width) = (self.first, self.of_filter.outputs, windows.kernel.w);
        let Size2 { h, w } = windows.stride;
        let row = move |y: usize| (0..taps.w).map(move |x| (first.h + y * h) * width + first.w + x * w);
        // A folded row of taps is a column here. Its places are in the same order.
        let folded = taps.h * taps.w == windows.taps();
        (0..taps.h).flat_map(row).enumerate().map(move |(tap, place)| if folded { tap } else { place })
    }

    /// Tiles of all images that a run sums over.
    pub(super) fn tiles(&self) -> TileGrid {
        let tiles = tiles(self.images, self.gradients.size, self.of_image);
        match &self.down {
            Some(rows) => tiles.down(rows.clone()),
            None => tiles,
        }
    }
}

/// The phases of `desc`.
///
/// # Errors
/// As [`taps_of`].
pub(super) fn phases(desc: &ConvDesc) -> Result<Vec<Phase>, Unsupported> {
    let maps = Maps::of(desc)?;
    maps.most_taps()?;
    maps.firsts().map(|first| maps.phase(first).ok_or(Unsupported::NotWinograd)).collect()
}

/// The number of taps along an axis of the largest phase of `desc`. It computes no coefficients, because the choice asks for every
/// algorithm.
///
/// # Errors
/// If no tiles are made for a phase, or none is transformed.
pub(in crate::algo::weights_gradient) fn taps_of(desc: &ConvDesc) -> Result<usize, Unsupported> {
    let maps = Maps::of(desc)?;
    let most = maps.most_taps()?;
    let is_made = |first| maps.tile_for(maps.taps_from(first)).is_some();
    if maps.firsts().all(is_made) { Ok(most) } else { Err(Unsupported::NotWinograd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{Pad2, Shape4};

    fn phases_of(kernel: Size2, stride: usize, extent: usize) -> Result<Vec<(Size2, Size2)>, Unsupported> {
        let desc = ConvDesc::builder(Shape4::new(1, 16, extent, extent), 16, kernel)
            .pad(Pad2::all(1))
            .stride(Size2::square(stride));
        let desc = desc.build().unwrap();
        let phases = phases(&desc);
        assert_eq!(phases.is_ok(), taps_of(&desc).is_ok());
        let phases = phases?;
        Ok(phases.iter().map(|phase| (phase.of_filter.outputs, phase.of_image.outputs)).collect())
    }

    #[test]
    fn each_phase_has_its_tile() {
        let (three, one) = (Size2::square(3), Size2::square(1));
        assert_eq!(phases_of(three, 1, 14), Ok(vec![(three, Size2::square(4))]));
        let strided = [
            (Size2::square(2), Size2::square(5)),
            (Size2::new(2, 1), Size2::new(5, 1)),
            (Size2::new(1, 2), Size2::new(1, 5)),
            (one, one),
        ];
        assert_eq!(phases_of(three, 2, 14), Ok(strided.to_vec()));
        assert_eq!(phases_of(Size2::square(4), 2, 16).map(|phases| phases.len()), Ok(4));
        // Rows of 36 gradients: six tiles of eight points, or nine of six.
        assert_eq!(phases_of(Size2::new(1, 3), 1, 36), Ok(vec![(Size2::new(1, 3), Size2::new(1, 6))]));
        assert_eq!(phases_of(Size2::new(1, 3), 1, 2), Ok(vec![(Size2::new(1, 3), Size2::new(1, 4))]));
        for (kernel, stride) in
            [(Size2::square(7), 1), (Size2::new(2, 3), 1), (three, 3), (Size2::square(5), 2)]
        {
            assert_eq!(phases_of(kernel, stride, 14), Err(Unsupported::NotWinograd), "{kernel:?}");
        }
    }

    /// Every tap of every output reads its pixel through exactly one phase.
    #[test]
    fn the_phases_read_the_pixels_of_their_taps() {
        for (kernel, stride, pad) in [(3, 2, 1), (4, 2, 1), (3, 1, 1), (4, 2, 3), (4, 3, 0)] {
            let desc = ConvDesc::builder(Shape4::new(1, 16, 9, 11), 16, Size2::square(kernel))
                .pad(Pad2::all(pad))
                .stride(Size2::square(stride))
                .build()
                .unwrap();
            let windows = Windows::new(&desc);
            let Ok(phases) = phases(&desc) else { continue };
            let mut taps = 0;
            for phase in &phases {
                taps += phase.taps();
                let TiledMap { size, before, places, .. } = phase.image;
                let Size2 { h, w } = phase.of_filter.outputs;
                for (ky, kx) in (0..h).flat_map(|ky| (0..w).map(move |kx| (ky, kx))) {
                    let tap = (phase.first.h + ky * stride, phase.first.w + kx * stride);
                    for (y, x) in
                        (0..windows.output.h).flat_map(|y| (0..windows.output.w).map(move |x| (y, x)))
                    {
                        let read = windows.row(y, tap.0).zip(windows.column(x, tap.1));
                        let row = (y + ky).checked_sub(before.h).filter(|&row| row < size.rows());
                        let column = (x + kx).checked_sub(before.w).filter(|&column| column < size.width);
                        let at = row
                            .zip(column)
                            .map(|(row, column)| places.first + row * places.row + column * places.column);
                        assert_eq!(
                            at,
                            read.map(|(y, x)| y * 11 + x),
                            "{desc}: output ({y}, {x}), tap {tap:?}"
                        );
                    }
                }
            }
            assert_eq!(taps, kernel * kernel);
        }
    }
}
