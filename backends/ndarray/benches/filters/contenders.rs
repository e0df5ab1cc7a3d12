//! The crates that compute a filter.

use crate::cases::Case;
use crate::python::Worker;
use convkernels_ndarray::{Border, Filter2d, FilterOptions, Threads, filter2d};
use image::{ImageBuffer, Luma};
use imageproc::kernel::Kernel;
use ndarray::Array2;
use ndarray_conv::{ConvExt, ConvFFTExt, ConvMode, PaddingMode, ReverseKernel};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Computes a filter, writes the output, and returns the seconds without the copy of the output.
type Run<'a> = Box<dyn FnMut(&mut Array2<f32>, Option<&mut Worker>) -> Result<f64, Box<dyn Error>> + 'a>;

pub struct Contender<'a> {
    name: String,
    run: Run<'a>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Ours,
    Peer,
    /// Has zeros outside of the image.
    ZeroBorder,
    /// Computes a kernel of another size.
    OtherKernel,
}

impl<'a> Contender<'a> {
    pub fn new(name: &str, kind: Kind, run: Run<'a>) -> Self {
        Self { name: name.to_owned(), run, kind }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    pub fn compared(&self) -> bool {
        self.kind != Kind::OtherKernel
    }

    pub fn interior_only(&self) -> bool {
        self.kind == Kind::ZeroBorder
    }

    pub fn run(
        &mut self,
        output: &mut Array2<f32>,
        worker: Option<&mut Worker>,
    ) -> Result<f64, Box<dyn Error>> {
        (self.run)(output, worker)
    }
}

/// Seconds that a contender runs again and again in each round.
pub const REPEATED: f64 = 0.03;

/// Runs `work` until [`REPEATED`] seconds have passed. Returns the last result and the median of the seconds,
/// without the first run if there are more: it finds the operands of other contenders in the caches.
fn timed<T>(mut work: impl FnMut() -> Result<T, Box<dyn Error>>) -> Result<(T, f64), Box<dyn Error>> {
    let (began, mut seconds) = (Instant::now(), Vec::new());
    loop {
        let start = Instant::now();
        let result = work()?;
        seconds.push(start.elapsed().as_secs_f64());
        if began.elapsed().as_secs_f64() > REPEATED {
            let warm = if seconds.len() > 1 { &mut seconds[1..] } else { &mut seconds[..] };
            warm.sort_by(f64::total_cmp);
            return Ok((result, warm[warm.len() / 2]));
        }
    }
}

/// A contender that returns a new image.
fn new_output<'a>(
    name: &str,
    kind: Kind,
    mut compute: impl FnMut() -> Result<Array2<f32>, Box<dyn Error>> + 'a,
) -> Contender<'a> {
    let run = move |output: &mut Array2<f32>, _: Option<&mut Worker>| {
        let (result, seconds) = timed(&mut compute)?;
        output.assign(&result);
        Ok(seconds)
    };
    Contender::new(name, kind, Box::new(run))
}

/// The threads of a run.
#[derive(Clone)]
struct Crew {
    threads: usize,
    pool: Arc<ThreadPool>,
}

impl Crew {
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.threads == 1 { work() } else { self.pool.install(work) }
    }
}

/// All contenders on a number of threads. The first one is the baseline of the ratios.
pub fn all<'a>(
    image: &'a Array2<f32>,
    case: &'a Case,
    threads: usize,
) -> Result<Vec<Contender<'a>>, Box<dyn Error>> {
    let crew = Crew { threads, pool: Arc::new(ThreadPoolBuilder::new().num_threads(threads).build()?) };
    let mut contenders = ours(image, case, &crew)?;
    contenders.extend(imageproc(image, case, &crew)?);
    contenders.extend(ndarray_conv(image, case, &crew));
    Ok(contenders)
}

fn ours<'a>(
    image: &'a Array2<f32>,
    case: &'a Case,
    crew: &Crew,
) -> Result<Vec<Contender<'a>>, Box<dyn Error>> {
    let threads = if crew.threads == 1 { Threads::Seq } else { Threads::Rayon };
    let options = FilterOptions::default().border(Border::Replicate).threads(threads);
    let filter = |separable| Filter2d::new(case.kernel.view(), &options.separable(separable));

    let mut contenders = vec![into_output("ours, run_into", image, filter(true)?, crew)];
    if filter(true)?.is_separable() {
        contenders.push(into_output("ours, run_into, one pass", image, filter(false)?, crew));
    }
    let (new, crew) = (filter(true)?, crew.clone());
    contenders.push(new_output("ours, run (new output)", Kind::Ours, move || {
        Ok(crew.run(|| new.run(image.view()))?)
    }));
    if threads == Threads::Seq {
        let once = move || Ok(filter2d(image.view(), case.kernel.view(), Border::Replicate)?);
        contenders.push(new_output("ours, filter2d (also packs)", Kind::Ours, once));
    }
    Ok(contenders)
}

fn into_output<'a>(name: &str, image: &'a Array2<f32>, filter: Filter2d, crew: &Crew) -> Contender<'a> {
    let crew = crew.clone();
    let run = move |output: &mut Array2<f32>, _: Option<&mut Worker>| {
        let ((), seconds) = timed(|| Ok(crew.run(|| filter.run_into(image.view(), output.view_mut()))?))?;
        Ok(seconds)
    };
    Contender::new(name, Kind::Ours, Box::new(run))
}

fn imageproc<'a>(
    image: &'a Array2<f32>,
    case: &'a Case,
    crew: &Crew,
) -> Result<Vec<Contender<'a>>, Box<dyn Error>> {
    type Gray = ImageBuffer<Luma<f32>, Vec<f32>>;
    let (h, w) = image.dim();
    let size = (u32::try_from(w)?, u32::try_from(h)?);
    let pixels: Vec<f32> = image.iter().copied().collect();
    let gray = Arc::new(Gray::from_raw(size.0, size.1, pixels).ok_or("imageproc: the image is too small")?);
    let array = move |result: Gray| Ok(Array2::from_shape_vec((h, w), result.into_raw())?);
    let mut contenders = Vec::new();

    let side = u32::try_from(case.kernel.nrows())?;
    let weights = case.kernel.as_slice().ok_or("a kernel in standard order")?;
    let (crew, input) = (crew.clone(), gray.clone());
    let threads = crew.threads;
    /// Larger kernels take a minute: their threads write the same cache lines.
    const LARGEST_IN_PARALLEL: u32 = 15;
    if threads > 1 && side > LARGEST_IN_PARALLEL {
        return Ok(contenders);
    }
    contenders.push(new_output("imageproc filter", Kind::Peer, move || {
        let kernel = Kernel::new(weights, side, side);
        let one = || imageproc::filter::filter::<_, _, _, Luma<f32>>(&input, kernel, |sum| sum);
        let several = || imageproc::filter::filter_parallel::<_, _, _, Luma<f32>>(&input, kernel, |sum| sum);
        array(if threads == 1 { one() } else { crew.run(several) })
    }));
    if threads > 1 {
        return Ok(contenders);
    }
    if let Some(factor) = &case.factor {
        let input = gray.clone();
        contenders.push(new_output("imageproc separable_filter", Kind::Peer, move || {
            array(imageproc::filter::separable_filter_equal(&input, factor))
        }));
    }
    if let Some(sigma) = case.sigma {
        contenders.push(new_output("image blur", Kind::OtherKernel, move || {
            array(image::imageops::blur(&*gray, sigma))
        }));
    }
    Ok(contenders)
}

fn ndarray_conv<'a>(image: &'a Array2<f32>, case: &'a Case, crew: &Crew) -> Vec<Contender<'a>> {
    // `no_reverse` makes it a correlation.
    let (mode, border) = (ConvMode::Same, PaddingMode::Replicate);
    let fft = move || image.conv_fft(case.kernel.no_reverse(), mode, border);
    let crew = crew.clone();
    if crew.threads > 1 {
        let parallel = move || Ok(crew.run(|| image.conv_fft_par(case.kernel.no_reverse(), mode, border))?);
        return vec![new_output("ndarray-conv conv_fft_par", Kind::Peer, parallel)];
    }
    vec![
        new_output("ndarray-conv conv", Kind::Peer, move || {
            Ok(image.conv(case.kernel.no_reverse(), mode, border)?)
        }),
        new_output("ndarray-conv conv_fft", Kind::Peer, move || Ok(fft()?)),
    ]
}
