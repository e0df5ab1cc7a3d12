//! How algorithms are chosen: by the model, or by times that a file can store.

use super::args::Pool;
use clap::Args;
use kernels::{Select, Wisdom};
use nets::{CompiledNet, Graph, NetError, NetOptions, WeightSource};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Planning {
    /// Choose algorithms by timing the ones that the model expects to be fastest on the real layers
    #[arg(long)]
    measured: bool,
    /// File with times of earlier runs; new times are added. It is created if missing. Problems with it are
    /// only warnings
    #[arg(long, value_name = "FILE", requires = "measured")]
    wisdom: Option<PathBuf>,
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
