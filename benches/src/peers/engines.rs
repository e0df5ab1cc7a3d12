//! The peer engines, and how their processes are started.

use super::tolerance;
use crate::direction::Direction;
use kernels::{Isa, Numerics};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A convolution engine that is compared with this library.
#[derive(Debug, PartialEq, Eq)]
pub struct Engine {
    /// The name in arguments and rows.
    pub name: &'static str,
    program: Program,
    tasks: &'static [Task],
    /// The rounding error of its products.
    pub(crate) numerics: Numerics,
}

/// A task that an engine can perform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A bare convolution.
    Layer,
    /// The gradients of a bare convolution, and the transposed one.
    Gradient,
    /// A bare 3-D convolution.
    Volume,
    /// The gradients of a bare 3-D convolution.
    VolumeGradient,
    /// A network from an ONNX file.
    Network,
    /// A network from an ONNX file, computed in `f64` as ground truth.
    Truth,
}

impl Task {
    /// The task of computing one layer in `direction`.
    pub(crate) const fn of_layer(direction: Direction) -> Self {
        match direction {
            Direction::Forward => Self::Layer,
            Direction::Data | Direction::Weights | Direction::Transposed => Self::Gradient,
        }
    }

    /// The task of computing a 3-D layer in `direction`.
    pub(crate) const fn of_volume(direction: Direction) -> Self {
        match direction {
            Direction::Forward => Self::Volume,
            Direction::Data | Direction::Weights | Direction::Transposed => Self::VolumeGradient,
        }
    }
}

/// The program that runs an engine.
#[derive(Debug, PartialEq, Eq)]
enum Program {
    /// A program that `setup.sh` builds from `onednn.cpp`.
    OneDnn(&'static str),
    /// `worker.py`, which imports this module.
    Python(&'static str),
    /// The program in `peers/rust`.
    Rust,
    /// This program itself as a worker, so that the library runs in its own process like its peers.
    Own,
}

/// Allocator settings for peers: memory on huge pages that is never returned to the system. Otherwise, the
/// first touch of fresh 4 KB pages on a virtual machine costs more than the convolution and hides the speed
/// of their kernels.
const TUNABLES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:\
     glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864";

/// The first argument that makes this program a worker.
pub(crate) const WORKER: &str = "worker";

impl Engine {
    /// All peer engines, oneDNN first.
    pub const ALL: [Self; 17] = {
        use Task::{Gradient, Layer, Network, Truth, Volume, VolumeGradient};
        const TORCH: &[Task] = &[Layer, Gradient, Volume, VolumeGradient, Network];
        [
            Self::new("onednn", Program::OneDnn("onednn-worker"), &[Layer, Gradient]),
            Self::new("onednn-winograd", Program::OneDnn("onednn-debian-worker"), &[Layer]),
            Self::new("ort", Program::Python("onnxruntime"), &[Layer, Volume, Network]),
            Self::new("openvino", Program::Python("openvino"), &[Layer, Volume, Network]),
            Self::new("openvino-bf16", Program::Python("openvino"), &[Layer, Network]).with(Numerics::Bf16),
            Self::new("torch", Program::Python("torch"), TORCH),
            Self::new("torch-channels-last", Program::Python("torch"), TORCH),
            Self::new("torch-compile", Program::Python("torch"), &[Network]),
            Self::new("torch-bf16", Program::Python("torch"), &[Layer, Network]).with(Numerics::Bf16),
            Self::new("torch-compile-bf16", Program::Python("torch"), &[Network]).with(Numerics::Bf16),
            Self::new("ncnn", Program::Python("ncnn"), &[Layer, Network]),
            Self::new("mnn", Program::Python("MNN"), &[Layer, Network]),
            Self::new("tract", Program::Rust, &[Layer, Network]),
            Self::new("rten", Program::Rust, &[Layer, Network]),
            Self::new("candle", Program::Rust, &[Layer]),
            Self::new("burn", Program::Rust, &[Layer]),
            Self::new("torch-f64", Program::Python("torch"), &[Truth]),
        ]
    };

    /// This library with each numerics, as engines.
    pub(crate) const OURS: [Self; 5] = [
        Self::ours("ours-strict", Numerics::Strict),
        Self::ours("ours", Numerics::Default),
        Self::ours("ours-fast", Numerics::Fast),
        Self::ours("ours-tf32", Numerics::Tf32),
        Self::ours("ours-bf16", Numerics::Bf16),
    ];

    const fn new(name: &'static str, program: Program, tasks: &'static [Task]) -> Self {
        Self { name, program, tasks, numerics: Numerics::Default }
    }

    const fn with(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    const fn ours(name: &'static str, numerics: Numerics) -> Self {
        Self::new(name, Program::Own, &[Task::Network]).with(numerics)
    }

    /// Whether a ratio with this library at `numerics` compares equal precision: bf16 with bf16, and everything else
    /// with `f32`.
    pub(crate) fn is_comparable(&self, numerics: Numerics) -> bool {
        is_comparable(self.numerics, numerics)
    }

    /// Relative L2 error of a layer above which the peer called `name` is excluded from the comparison.
    pub(crate) fn layer_tolerance(name: &str) -> f64 {
        let engine = Self::ALL.iter().find(|engine| engine.name == name);
        tolerance::of_layer(engine.map_or(Numerics::Default, |engine| engine.numerics))
    }

    /// The peer engines that support `task`.
    pub(crate) fn of(task: Task) -> impl Iterator<Item = &'static Self> {
        Self::ALL.iter().filter(move |engine| engine.supports(task))
    }

    /// Whether the engine can perform `task`.
    pub(crate) fn supports(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }

    /// Whether the engine can be compared with kernels of `isa`. Only oneDNN, and OpenVINO with it, can be limited to a
    /// smaller instruction set than the best, and only the worker of oneDNN has a ring for cold memory.
    pub(crate) fn takes_part(&self, isa: Isa, is_cold: bool) -> bool {
        let is_onednn = matches!(self.program, Program::OneDnn(_));
        let has_limit = is_onednn || self.name == "openvino";
        let is_best = match self.numerics {
            Numerics::Bf16 => isa == Isa::detect(),
            _ => isa.of_f32() == Isa::detect().of_f32(),
        };
        (is_best || isa == Isa::Avx2Fma && has_limit) && (is_onednn || !is_cold)
    }

    /// Whether `setup.sh` has installed the engine in `folder`.
    pub(super) fn is_installed(&self, folder: &Path) -> bool {
        match self.program {
            Program::OneDnn(program) => folder.join(program).is_file(),
            Program::Rust => rust_worker(folder).is_file(),
            Program::Own => true,
            Program::Python(module) => {
                let libraries = std::fs::read_dir(folder.join("venv/lib")).into_iter().flatten().flatten();
                let mut modules = libraries.map(|python| python.path().join("site-packages").join(module));
                python_worker(folder).is_file() && modules.any(|module| module.exists())
            }
        }
    }

    /// The command of its process, for `threads` threads and vectors of `isa`.
    ///
    /// # Errors
    /// If the path of this program is unknown.
    pub(super) fn command(&self, folder: &Path, threads: usize, isa: Isa) -> std::io::Result<Command> {
        let mut command = match self.program {
            Program::OneDnn(program) => Command::new(folder.join(program)),
            Program::Rust => Command::new(rust_worker(folder)),
            Program::Own => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg(WORKER);
                own
            }
            Program::Python(_) => {
                let mut python = Command::new(folder.join("venv/bin/python"));
                python.arg(python_worker(folder));
                python
            }
        };
        let threads = threads.to_string();
        command.args([self.name, &threads]);
        if self.program == Program::Own {
            command.arg(isa.name());
        }
        // The library allocates huge pages itself.
        if self.program != Program::Own {
            command.env("GLIBC_TUNABLES", TUNABLES);
        }
        for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "RTEN_NUM_THREADS"] {
            command.env(variable, &threads);
        }
        if isa == Isa::Avx2Fma {
            // The variable's names until oneDNN 2.x, and since.
            command.env("DNNL_MAX_CPU_ISA", "AVX2").env("ONEDNN_MAX_CPU_ISA", "AVX2");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
}

/// Whether products with the rounding errors of `a` and `b` have the same precision: both bf16, or neither.
pub(crate) fn is_comparable(a: Numerics, b: Numerics) -> bool {
    (a == Numerics::Bf16) == (b == Numerics::Bf16)
}

fn python_worker(folder: &Path) -> PathBuf {
    folder.join("worker.py")
}

fn rust_worker(folder: &Path) -> PathBuf {
    folder.join("rust-worker")
}

/// The engines to time: `wanted`, or if that is empty, all that support one of `tasks`, can be compared with this library
/// at one of `levels`, and are installed in `folder`.
///
/// # Errors
/// A wanted engine that is not installed or supports none of `tasks`, or no installed engine at all.
pub(crate) fn installed(
    folder: &Path,
    wanted: &[&'static Engine],
    tasks: &[Task],
    levels: &[Numerics],
) -> anyhow::Result<Vec<&'static Engine>> {
    if let Some(missing) = wanted.iter().find(|engine| !engine.is_installed(folder)) {
        let (name, folder) = (missing.name, folder.display());
        anyhow::bail!("{name} is not in {folder}; benches/peers/setup.sh {folder} installs it");
    }
    let is_able = |engine: &&Engine| tasks.iter().any(|&task| engine.supports(task));
    if let Some(unable) = wanted.iter().find(|engine| !is_able(engine)) {
        let able: Vec<&str> = Engine::ALL.iter().filter(is_able).map(|engine| engine.name).collect();
        anyhow::bail!("{} computes no gradients, expected one of {}", unable.name, able.join(", "));
    }
    if !wanted.is_empty() {
        return Ok(wanted.to_vec());
    }
    let is_meant = |engine: &&Engine| levels.iter().any(|&level| engine.is_comparable(level));
    let found: Vec<_> = Engine::ALL
        .iter()
        .filter(is_able)
        .filter(is_meant)
        .filter(|engine| engine.is_installed(folder))
        .collect();
    let folder = folder.display();
    anyhow::ensure!(
        !found.is_empty(),
        "no peers of this precision are in {folder}; benches/peers/setup.sh {folder} installs them"
    );
    Ok(found)
}
