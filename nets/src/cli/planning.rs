//! How algorithms are chosen: by the model, or by times that a file can store.

use super::args::Pool;
use clap::Args;
use kernels::{Select, Wisdom};
use nets::{CompiledNet, Graph, NetError, NetOptions, PackedWeights, WeightSource};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Planning {
    /// Choose algorithms by timing the ones that the model expects to be fastest on the real layers
    #[arg(long)]
    measured: bool,
    /// File with times of earlier runs; new times are added. It is created if missing. Problems with it are
    /// only warnings
    #[arg(long, value_name = "FILE", requires = "measured")]
    wisdom: Option<PathBuf>,
    /// File with packed weights of an earlier run on this machine, which saves packing them. It is created if missing.
    /// Problems with it are only warnings
    #[arg(long, value_name = "FILE", conflicts_with = "measured")]
    packed: Option<PathBuf>,
}

impl Planning {
    /// The threads for [`compile`](Self::compile), if it needs any.
    pub(crate) fn pool(&self, threads: usize) -> anyhow::Result<Pool> {
        Pool::new(if self.measured { threads } else { 1 })
    }

    /// Compiles the network in `pool`.
    pub(crate) fn compile(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        options: NetOptions,
        pool: &Pool,
    ) -> Result<CompiledNet, NetError> {
        if let Some(path) = &self.packed {
            return compile_with_file(graph, weights, &options, path);
        }
        if !self.measured {
            return CompiledNet::new(graph, weights, &options);
        }
        let options = options.select(Select::Measured);
        let wisdom = self.wisdom.as_deref().map_or_else(Wisdom::new, load);
        let before = wisdom.to_string();
        let net = pool.install(|| CompiledNet::with_wisdom(graph, weights, &options, &wisdom))?;
        if let Some(path) = self.wisdom.as_deref().filter(|_| wisdom.to_string() != before) {
            save(&wisdom, path);
        }
        Ok(net)
    }
}

/// Compiles with the packed weights of the file; without a file that fits, compiles and writes it.
fn compile_with_file(
    graph: &Graph,
    weights: &dyn WeightSource,
    options: &NetOptions,
    path: &Path,
) -> Result<CompiledNet, NetError> {
    let start = Instant::now();
    let told = |what: &str| eprintln!("compiled in {:.0?} {what} {}", start.elapsed(), path.display());
    if path.try_exists().unwrap_or(true) {
        match read_packed(path)
            .and_then(|packed| Ok(CompiledNet::with_packed(graph, weights, options, &packed)?))
        {
            Ok(net) => {
                told("with the packed weights of");
                return Ok(net);
            }
            Err(error) => eprintln!("warning: {}: {error}", path.display()),
        }
    }
    let net = CompiledNet::new(graph, weights, options)?;
    told("without packed weights, which are now written to");
    let packed = net.packed_weights(graph, weights)?;
    if let Err(error) = write_packed(&packed, path) {
        eprintln!("warning: cannot write {}: {error}", path.display());
    }
    Ok(net)
}

fn read_packed(path: &Path) -> anyhow::Result<PackedWeights> {
    Ok(PackedWeights::read(&mut BufReader::new(File::open(path)?))?)
}

/// The file is complete before it takes the place of an older one.
fn write_packed(packed: &PackedWeights, path: &Path) -> anyhow::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    let written = packed.write(&mut file).map_err(anyhow::Error::from).and_then(|()| Ok(file.flush()?));
    let moved = written.and_then(|()| Ok(fs::rename(&unfinished, path)?));
    if moved.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
    }
    moved
}

/// Loads the valid entries of the file, or none if there is no file yet.
fn load(path: &Path) -> Wisdom {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Wisdom::new();
    }
    let loaded = Wisdom::load(path);
    loaded.ignored.iter().for_each(|reason| eprintln!("warning: {}: {reason}", path.display()));
    loaded.wisdom
}

/// A failure to save is only a warning, because the network itself is ready to run.
fn save(wisdom: &Wisdom, path: &Path) {
    if let Err(error) = wisdom.save(path) {
        eprintln!("warning: cannot write {}: {error}", path.display());
    }
}
