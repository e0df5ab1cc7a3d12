//! Arguments that several commands share, and their parsers.

use clap::{Args, ValueEnum};
use kernels::{Isa, Numerics, Shape4, Size2, Threads};
use nets::{NetOptions, Shape};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::PathBuf;
use std::time::Duration;

/// The format of results that are not tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plain {
    /// Text for a terminal
    #[default]
    Text,
    /// A JSON object
    Json,
}

/// The format of tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for a terminal
    #[default]
    Text,
    /// A JSON object
    Json,
    /// Comma-separated values
    Csv,
    /// A Markdown table
    Markdown,
}

/// Parses `3x224x224`, or `784` for a vector.
pub(crate) fn image(text: &str) -> Result<Shape, String> {
    match numbers(text, 'x')[..] {
        [Some(len)] if len > 0 => Ok(Shape::vector(len)),
        [Some(c), Some(h), Some(w)] if c > 0 && h > 0 && w > 0 => Ok(Shape::map(c, h, w)),
        _ => Err(format!("expected three numbers CxHxW, as in 3x224x224, got {text}")),
    }
}

/// Parses the path of a picture that can be written: it ends in `.svg`, and is in a folder that exists.
pub(crate) fn svg(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg")) {
        return Err(format!("cannot write {text}: expected a file name that ends in .svg"));
    }
    if path.is_dir() {
        return Err(format!("cannot write {text}: expected a file, got a folder"));
    }
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(format!("cannot write {text}: expected an existing folder, got {}", folder.display()))
        }
        None => Ok(path),
    }
}

/// The instruction set of the kernels.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct InstructionSet {
    /// Instruction set: portable, neon, avx2fma, avx512f, avx512bf16 or amx [default: the best of this machine]
    #[arg(long)]
    pub(crate) isa: Option<Isa>,
}

/// The number of threads.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct ThreadCount {
    /// Number of threads [default: one per physical core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl ThreadCount {
    pub(crate) fn get(self) -> usize {
        self.threads.map_or_else(|| num_cpus::get_physical().max(1), usize::from)
    }
}

/// The instruction set of the kernels, and how exact they are.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Kernels {
    #[command(flatten)]
    pub(crate) instructions: InstructionSet,
    /// Maximum rounding error that methods may add: strict, default, fast, tf32 or bf16
    #[arg(long, value_name = "LEVEL", default_value_t)]
    pub(crate) numerics: Numerics,
}

impl Kernels {
    pub(crate) fn options(self) -> NetOptions {
        let mut options = NetOptions::default().numerics(self.numerics);
        options.isa = self.instructions.isa;
        options
    }
}

/// The threads, and the kernels that they run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Hardware {
    #[command(flatten)]
    threads: ThreadCount,
    #[command(flatten)]
    kernels: Kernels,
}

impl Hardware {
    pub(crate) fn threads(&self) -> usize {
        self.threads.get()
    }

    pub(crate) fn options(&self, batch: usize) -> NetOptions {
        self.kernels.options().batch(batch).max_threads(self.threads())
    }

    pub(crate) fn numerics(&self) -> Numerics {
        self.kernels.numerics
    }

    /// Creates the threads; see [`Pool::threads`].
    pub(crate) fn pool(&self) -> anyhow::Result<Pool> {
        Pool::new(self.threads())
    }
}

/// The calling thread, or a thread pool.
pub(crate) struct Pool(Option<ThreadPool>);

impl Pool {
    pub(crate) fn new(threads: usize) -> anyhow::Result<Self> {
        let pool = (threads > 1).then(|| ThreadPoolBuilder::new().num_threads(threads).build());
        Ok(Self(pool.transpose()?))
    }

    pub(crate) fn pool(&self) -> Option<&ThreadPool> {
        self.0.as_ref()
    }

    /// Runs `work` on one of the threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    pub(crate) fn threads(&self) -> Threads<'_> {
        self.0.as_ref().map_or(Threads::Seq, Threads::Pool)
    }
}

/// Parses a duration in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected seconds, above 0 and at most 3600, got {text}");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds > 0.0 && seconds <= 3600.0 { Ok(Duration::from_secs_f64(seconds)) } else { Err(wrong()) }
}

/// Parses `1x64x56x56`.
pub(crate) fn shape4(text: &str) -> Result<Shape4, String> {
    match numbers(text, 'x')[..] {
        [Some(n), Some(c), Some(h), Some(w)] => Ok(Shape4::new(n, c, h, w)),
        _ => Err(format!("expected four numbers NxCxHxW, as in 1x64x56x56, got {text}")),
    }
}

/// Parses `3x1`, or `3` for both axes.
pub(crate) fn size2(text: &str) -> Result<Size2, String> {
    match numbers(text, 'x')[..] {
        [Some(side)] => Ok(Size2::square(side)),
        [Some(h), Some(w)] => Ok(Size2::new(h, w)),
        _ => Err(format!("expected HxW, as in 3x1, or one number for both axes, got {text}")),
    }
}

/// Parses `0.485,0.456,0.406`: one number per colour channel.
pub(crate) fn colours(text: &str) -> Result<[f32; 3], String> {
    let wrong = || format!("expected three numbers R,G,B, as in 0.485,0.456,0.406, got {text}");
    let numbers: Vec<f32> = text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let finite = numbers.iter().all(|number: &f32| number.is_finite());
    <[f32; 3]>::try_from(numbers).ok().filter(|_| finite).ok_or_else(wrong)
}

/// Parses numbers between separators. `None` stands for an invalid or too large number.
pub(super) fn numbers(text: &str, separator: char) -> Vec<Option<usize>> {
    text.split(separator).map(|number| number.parse().ok()).collect()
}
