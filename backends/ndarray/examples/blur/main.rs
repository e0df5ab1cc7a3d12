//! Blurs a picture with 61x61 kernels: a Gaussian, which is separable, and a disc, which is not and looks like
//! the blur of a lens. Writes PNG files and prints the times of this crate and of three others.
//!
//! ```text
//! cargo run --release -p convkernels-ndarray --example blur -- [--out DIR] [--in FILE.png] [--slow]
//! ```
//!
//! Without `--in` it draws lights at night. `--slow` also times imageproc's `filter`, which takes half a
//! minute.

mod picture;

use convkernels_ndarray::{Border, Filter2d, FilterOptions, Threads};
use image::{ImageBuffer, Rgb, Rgb32FImage};
use imageproc::kernel::Kernel;
use ndarray::{Array1, Array2, Array3, Axis};
use ndarray_conv::{ConvFFTExt, ConvMode, PaddingMode, ReverseKernel};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

const SIDE: usize = 61;
const SIGMA: f32 = 10.0;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::env::temp_dir().join("convkernels-blur");
    let (mut input, mut slow) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--slow" => slow = true,
            "--out" => out = arguments.next().ok_or("--out: expected a folder")?.into(),
            "--in" => input = Some(PathBuf::from(arguments.next().ok_or("--in: expected a file")?)),
            _ => return Err(format!("expected --out, --in or --slow, got {argument}").into()),
        }
    }
    let picture = match input {
        Some(file) => picture::read(&file)?,
        None => picture::lights_at_night(1080, 1920),
    };
    std::fs::create_dir_all(&out)?;
    picture::write(&picture, &out.join("input.png"))?;

    let (factor, disc) = (gaussian(), disc());
    let kernel = Array2::from_shape_fn((SIDE, SIDE), |(y, x)| factor[y] * factor[x]);
    let mut blurred = Array3::zeros(picture.dim());
    for (name, kernel) in [("gaussian", &kernel), ("disc", &disc)] {
        for threads in [Threads::Seq, Threads::Rayon] {
            let options = FilterOptions::default().border(Border::Replicate).threads(threads);
            let filter = Filter2d::new(kernel.view(), &options)?;
            // The first call plans.
            filter.run_hwc_into(picture.view(), blurred.view_mut())?;
            let label = format!("{name}: convkernels, {threads:?}, separable: {}", filter.is_separable());
            timed(&label, || filter.run_hwc_into(picture.view(), blurred.view_mut()))?;
        }
        let file = out.join(format!("{name}.png"));
        picture::write(&blurred, &file)?;
        println!("wrote {}", file.display());
        ndarray_conv(name, &picture, kernel, &blurred)?;
    }
    image_crates(&picture, &factor, &disc, slow)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

/// The vector whose outer product with itself is a Gaussian.
fn gaussian() -> Array1<f32> {
    let middle = (SIDE / 2) as f32;
    let weights = Array1::from_shape_fn(SIDE, |x| (-((x as f32 - middle) / SIGMA).powi(2) / 2.0).exp());
    &weights / weights.sum()
}

/// What a point of light becomes in a lens that is out of focus.
fn disc() -> Array2<f32> {
    let middle = (SIDE / 2) as f32;
    // A pixel at the edge counts as far as it is covered.
    let weights = Array2::from_shape_fn((SIDE, SIDE), |(y, x)| {
        (middle + 0.5 - (y as f32 - middle).hypot(x as f32 - middle)).clamp(0.0, 1.0)
    });
    &weights / weights.sum()
}

/// Correlates each channel by ndarray-conv, and prints how far the results are apart.
fn ndarray_conv(
    name: &str,
    picture: &Array3<f32>,
    kernel: &Array2<f32>,
    ours: &Array3<f32>,
) -> Result<(), Box<dyn Error>> {
    let channels: Vec<_> = picture.axis_iter(Axis(2)).map(|channel| channel.to_owned()).collect();
    let blurred = timed(&format!("{name}: ndarray-conv conv_fft"), || {
        let blur = |channel: &Array2<f32>| {
            channel.conv_fft(kernel.no_reverse(), ConvMode::Same, PaddingMode::Replicate)
        };
        channels.iter().map(blur).collect::<Result<Vec<_>, _>>()
    })?;
    let mut largest = 0f32;
    for (theirs, ours) in blurred.iter().zip(ours.axis_iter(Axis(2))) {
        largest = theirs.iter().zip(ours).fold(largest, |most, (a, b)| most.max((a - b).abs()));
    }
    println!(
        "{name}: largest difference {largest:.1e}, largest pixel {:.1}",
        ours.iter().fold(0f32, |a, &b| a.max(b))
    );
    Ok(())
}

fn image_crates(
    picture: &Array3<f32>,
    factor: &Array1<f32>,
    disc: &Array2<f32>,
    slow: bool,
) -> Result<(), Box<dyn Error>> {
    let (h, w, _) = picture.dim();
    let pixels = picture.iter().copied().collect();
    let rgb: Rgb32FImage =
        ImageBuffer::from_raw(u32::try_from(w)?, u32::try_from(h)?, pixels).ok_or("too few pixels")?;
    let factor = factor.to_vec();
    timed("gaussian: imageproc separable_filter", || {
        imageproc::filter::separable_filter_equal(&rgb, &factor)
    });
    timed("gaussian: image blur (a kernel of its own)", || image::imageops::blur(&rgb, SIGMA));
    if slow {
        let weights: Vec<f32> = disc.iter().copied().collect();
        let kernel = Kernel::new(&weights, SIDE as u32, SIDE as u32);
        timed("disc: imageproc filter", || {
            imageproc::filter::filter::<_, _, _, Rgb<f32>>(&rgb, kernel, |sum| sum)
        });
    }
    Ok(())
}
