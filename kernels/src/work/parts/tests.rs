use super::*;

fn whole(images: usize, channels: usize, pixels: usize) -> OutputBox {
    OutputBox { images: 0..images, channels: 0..channels, pixels: 0..pixels }
}

fn parts(whole: &OutputBox, split_units: &SplitUnits, threads: usize) -> Vec<OutputBox> {
    let mut parts = Vec::new();
    whole.clone().each_part(Sharing::among(threads), split_units, &mut |part| parts.push(part));
    parts
}

/// Units of the largest part.
fn largest(units: [usize; 3], threads: usize) -> usize {
    let [images, channels, pixels] = units;
    let split_units = SplitUnits::new(1, 1);
    whole(images, channels, pixels).largest_part(&split_units, threads).size()
}

/// The boxes `(images, channels, pixels)` and units `(channels, pixels)` of the tests.
fn boxes() -> impl Iterator<Item = (OutputBox, SplitUnits)> {
    let extents =
        [(1, 64, 56), (1, 1000, 1), (1, 1, 4000), (1, 37, 49), (3, 5, 7), (8, 512, 49), (2, 40, 196)];
    extents.into_iter().flat_map(|(images, channels, pixels)| {
        let units = [(1, 1), (32, 7), (16, 14), (5, 3)].into_iter();
        units.flat_map(move |(of_channels, of_pixels)| {
            [false, true].map(|channels_first| {
                let few_pixels = 4;
                let units =
                    SplitUnits { pixels: of_pixels, channels: of_channels, few_pixels, channels_first };
                (whole(images, channels, pixels), units)
            })
        })
    })
}

#[test]
fn every_output_is_in_one_part_and_no_tile_is_split() {
    for (whole, units) in boxes() {
        for threads in [1, 2, 3, 5, 8, 13, 64, 100, 128, 1024] {
            let parts = parts(&whole, &units, threads);
            assert!(parts.len() <= threads, "{whole:?} {units:?}");
            let sizes: usize = parts.iter().map(OutputBox::size).sum();
            assert_eq!(sizes, whole.size(), "{whole:?} {units:?} on {threads} threads");
            for (number, part) in parts.iter().enumerate() {
                assert!(part.size() > 0, "{part:?} of {whole:?} {units:?} on {threads} threads");
                let OutputBox { channels, pixels, .. } = part;
                assert!(channels.start % units.channels == 0 && pixels.start % units.pixels == 0);
                assert!(parts[..number].iter().all(|other| are_apart(part, other)), "{part:?} of {whole:?}");
            }
        }
    }
}

fn are_apart(a: &OutputBox, b: &OutputBox) -> bool {
    let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
    apart(&a.images, &b.images) || apart(&a.channels, &b.channels) || apart(&a.pixels, &b.pixels)
}

#[test]
fn a_box_that_can_be_divided_evenly_is() {
    for (units, threads) in [
        ([1, 8, 56], 64),
        ([1, 1, 128], 64),
        ([4, 3, 16], 64),
        ([1, 16, 7], 7),
        ([1, 16, 7], 112),
        ([16, 1, 1], 8),
        ([8, 16, 49], 128),
    ] {
        assert_eq!(largest(units, threads) * threads, units.iter().product::<usize>(), "{units:?}");
    }
}

/// Recursive halving leaves a part of 16 units in the first box, where 13 strips of 4 rows each are possible.
#[test]
fn grids_with_uneven_strips_are_found() {
    assert_eq!(largest([1, 4, 49], 52), 4);
    // 5 strips of 3 rows for 2 threads each, and one strip of 2 rows for one thread, whose part is larger.
    assert_eq!(largest([1, 2, 17], 11), 4);
    assert_eq!(largest([1, 7, 16], 64), 2);
}

#[test]
fn part_of_a_panel_takes_less() {
    // Two panels, of 32 and 16 channels.
    let part = |split_units| whole(1, 48, 49).largest_part(&split_units, 4);
    let units = SplitUnits { channels_first: true, ..SplitUnits::new(1, 32) };
    assert_eq!((part(units).pixels.len(), part(units).channels.len()), (13, 48));
    // Four rows of tiles of 14 pixels, of which the last is not whole, are even.
    assert_eq!(part(SplitUnits::new(14, 32)).pixels.len(), 14);
}

#[test]
fn few_pixels_are_not_cut_further_if_channels_can_be() {
    // One cut would leave 2 pixels of 2 panels for each thread, which take as long as 4 pixels of 2 panels.
    let units = SplitUnits { few_pixels: 4, ..SplitUnits::new(1, 32) };
    let part = whole(1, 64, 196).largest_part(&units, 98);
    assert_eq!((part.pixels.len(), part.channels.len()), (4, 32));
    let units = SplitUnits::new(1, 32);
    let part = whole(1, 64, 196).largest_part(&units, 98);
    assert_eq!((part.pixels.len(), part.channels.len()), (2, 64));
    let units = SplitUnits { few_pixels: 4, ..SplitUnits::new(14, 32) };
    assert_eq!(whole(1, 64, 196).largest_part(&units, 14).size(), 14 * 64);
}

#[test]
fn no_single_cut_is_better() {
    for (channels, pixels) in
        (1..30usize).flat_map(|channels| (1..30usize).map(move |pixels| (channels, pixels)))
    {
        for threads in [2, 3, 7, 12, 29, 64] {
            let single = (channels * pixels.div_ceil(threads)).min(pixels * channels.div_ceil(threads));
            let largest = largest([1, channels, pixels], threads);
            // A cut within 3 % of even ends the search.
            let even = (channels * pixels) as f64 / threads as f64;
            assert!(largest <= single || even / largest as f64 > 0.96, "{channels} x {pixels} on {threads}");
            assert!(largest * threads >= channels * pixels);
        }
    }
}

#[test]
fn two_threads_take_the_preferred_axis_if_it_is_even() {
    let units = SplitUnits::new(1, 1);
    let cut = |units: &SplitUnits, [images, channels, pixels]: [usize; 3]| {
        let whole = whole(images, channels, pixels);
        Sharing::among(2).cut(units, |axis| whole.len(axis)).map(|cut| (cut.axis, cut.count))
    };
    assert_eq!(cut(&units, [2, 8, 8]), Some((Axis::Images, 1)));
    assert_eq!(cut(&units, [3, 8, 8]), Some((Axis::Pixels, 4)));
    assert_eq!(cut(&SplitUnits { channels_first: true, ..units }, [1, 8, 8]), Some((Axis::Channels, 4)));
    assert_eq!(cut(&units, [1, 8, 7]), Some((Axis::Channels, 4)));
    assert_eq!(cut(&units, [1, 1, 1]), None);
}
